from __future__ import annotations

from grip_core.figures.lines import looks, newspaper
from grip_core.figures.palette import STYLES


def test_groups_flow_through_columns_of_equal_height():
    assert newspaper([["A", 1, 2], ["B", 3]], 3) == [["A", 1], [2, None], ["B", 3]]
    assert newspaper([["A", 1, 2, 3, 4, 5]], 2) == [["A", 1, 2], [3, 4, 5]]


def test_a_heading_is_never_the_last_of_its_column():
    assert newspaper([["A", 1], ["B", 2, 3]], 2) == [["A", 1, None], ["B", 2, 3]]


def test_columns_grow_when_empty_places_make_one_too_many():
    assert newspaper([["A", 1, 2], ["B", 3, 4]], 3) == [["A", 1, 2], ["B", 3, 4]]


def test_only_the_emphasised_and_the_references_keep_their_style():
    look = looks(["grip", "dart", "grid", "full"], ["grip", "dart"])
    assert {name for name, style in look.items() if style == STYLES[name]} == {"grip", "dart", "full"}
    assert look["grid"].width < STYLES["grid"].width
    assert (look["grid"].marker, look["grid"].dashes) == (STYLES["grid"].marker, STYLES["grid"].dashes)
