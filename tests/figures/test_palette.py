from __future__ import annotations

from grip_core.baselines.registry import known
from grip_core.figures.lines import muted
from grip_core.figures.palette import SPARE, STYLES, styles


def test_every_method_of_the_project_has_its_own_look():
    lines = {name: styles(known())[name] for name in ["grip", "warmup", *known()]}
    assert len({(style.color, style.dashes) for style in lines.values()}) == len(lines)
    assert all(STYLES["grip"].width > style.width for name, style in lines.items() if name != "grip")


def test_a_method_looks_the_same_in_any_company():
    assert styles(["random"])["random"] == styles(["grip", "random", "mine"])["random"]
    assert styles(["mine", "yours"])["mine"] != styles(["mine", "yours"])["yours"]


def test_no_two_methods_share_color_marker_and_dashes():
    looks = [*STYLES.values(), *SPARE]
    assert len({(style.color, style.marker, style.dashes) for style in looks}) == len(looks)
    faded = [muted(style) for style in looks]
    assert len({(style.color, style.marker, style.dashes) for style in faded}) == len(looks)
