from __future__ import annotations

import matplotlib as mpl
import pytest

from grip_core.figures.pareto import pareto
from grip_core.figures.save import figure_bytes, save_figure


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes(table, kind):
    one = table[table["benchmark"] == "one"]
    first, second = (figure_bytes(pareto(one), [kind])[kind] for _ in range(2))
    assert first == second
    assert not [
        word
        for word in (b"dc:date", b"CreationDate", b"Producer", b"Software", mpl.__version__.encode())
        if word in first
    ]
    assert first != figure_bytes(pareto(one.assign(accuracy=one["accuracy"] / 2)), [kind])[kind]


def test_all_kinds_are_written(table, tmp_path):
    files = figure_bytes(pareto(table[table["benchmark"] == "one"]))
    save_figure(files, tmp_path / "figures", "pareto")
    assert (tmp_path / "figures" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "figures" / "pareto.svg").read_bytes()
    assert (tmp_path / "figures" / "pareto.pdf").read_bytes().startswith(b"%PDF")


def test_text_of_an_svg_stays_text(table):
    assert b">Mean over benchmarks</text>" in figure_bytes(pareto(table), ["svg"])["svg"]
