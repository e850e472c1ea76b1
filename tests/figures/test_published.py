from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.figures.published import published
from grip_core.published.numbers import read_published


@pytest.fixture
def values() -> pd.DataFrame:
    return read_published()


@pytest.fixture
def own() -> pd.DataFrame:
    records = [
        ("pope", "divprune", 64, 0.8),
        ("pope", "divprune", 32, 0.7),
        ("pope", "full", 576, 0.85),
        ("mme", "divprune", 64, 0.8),
        ("easy_vqa", "divprune", 64, 0.8),
    ]
    return pd.DataFrame(records, columns=["benchmark", "method", "k", "accuracy"])


def panels(figure) -> dict[str, dict]:
    return {axis.get_title(loc="left"): {line.get_label(): line for line in axis.lines} for axis in figure.axes}


def test_lines_are_the_printed_values(values):
    pope = panels(published(values))["POPE"]
    np.testing.assert_array_equal(pope["fastv_inside"].get_xydata(), [[64, 36.1], [128, 68.3], [192, 75.8]])
    assert set(pope["full"].get_ydata()) == {85.9}
    assert set(pope["grip_vlm"].get_ydata()) == {87.05}  # a level: its budget is not stated
    assert len(pope) == 10


def test_a_panel_a_benchmark_with_its_unit(values):
    units = {axis.get_title(loc="left"): axis.get_ylabel() for axis in published(values).axes}
    assert units == dict.fromkeys(["POPE", "ScienceQA", "TextVQA", "MME", "GQA", "AI2D", "OCRBench"], "%") | {
        "MME": "points"
    }


def test_an_own_run_stands_where_benchmarks_and_units_agree(values, own):
    figure = published(values, own)
    lines = panels(figure)
    line = lines["POPE"]["divprune, measured"]
    np.testing.assert_allclose(line.get_xydata(), [[32, 70.0], [64, 80.0]])
    assert line.get_linewidth() > lines["POPE"]["divprune"].get_linewidth()
    measured = [title for title, panel in lines.items() if any("measured" in name for name in panel)]
    assert measured == ["POPE"]
    assert "full, measured" not in lines["POPE"]
    assert "DivPrune, measured" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_it_says_that_papers_disagree_and_nothing_printed_was_measured(values):
    note = published(values).legends[0].get_title().get_text()
    assert "not measured here" in note
    assert "64.8, 74.8 and 75.8" in note
