"""The figures show the table's numbers, in milliseconds and in the table's order."""

from __future__ import annotations

import pandas as pd
import pytest

from grip_core.cost.timing import PARTS
from grip_core.figures.speed import PART_COLORS, accuracy_against_cost, parts


@pytest.fixture
def costs() -> pd.DataFrame:
    """Parts of 1, 2, 3 and 4 ms; ten times that for the unpruned model; quartiles half a ms away."""
    rows = []
    for method, k, scale in (("norm", 2, 1), ("grip", 2, 1), ("full", 16, 10)):
        for batch in (1, 32):
            for place, part in enumerate(PARTS):
                seconds = 0.001 * scale * (place + 1)
                row = {"method": method, "k": k, "batch": batch, "part": part, "seconds": seconds}
                rows.append(row | {"low": seconds - 0.0005, "high": seconds + 0.0005})
    return pd.DataFrame(rows)


def _segments(axis) -> dict[tuple[int, str], tuple[float, float]]:
    """Lower edge and height of every bar, by its place and its part's color."""
    found = {}
    for bar in (bar for bar in axis.patches if bar.get_height() > 0):
        part = next(name for name, color in PART_COLORS.items() if _hex(bar) == color)
        found[round(bar.get_x() + bar.get_width() / 2), part] = (bar.get_y(), bar.get_height())
    return found


def _hex(bar) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in bar.get_facecolor()[:3])


def test_stacked_parts(costs):
    figure = parts(costs, repetitions=15)
    figure.draw_without_rendering()
    assert len(figure.axes) == 4
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["GRIP", "Token norm"]
    first = figure.axes[0]
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ["2", "16"]
    assert first.get_ylabel() == "ms per answer\n(batch of 1)"
    assert _segments(first)[0, "encode"] == pytest.approx((0.0, 1.0))
    assert _segments(first)[0, "select"] == pytest.approx((1.0, 2.0))
    assert _segments(first)[0, "decode"] == pytest.approx((6.0, 4.0))
    assert _segments(first)[1, "prefill"] == pytest.approx((30.0, 30.0))
    assert "n = 15" in figure.get_supxlabel()


def test_whiskers_are_quartiles(costs):
    axis = parts(costs, repetitions=15).axes[0]
    (bars,) = axis.containers[-2].lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([top - 0.5, top + 0.5]) for top in (1.0, 3.0, 6.0, 10.0)]


def test_accuracy_against_cost():
    table = pd.DataFrame(
        {
            "method": ["norm", "grip", "grip", "full"],
            "k": [2, 4, 2, 16],
            "accuracy": [0.5, 0.8, 0.6, 0.9],
            "accuracy_low": [0.4, 0.7, 0.5, 0.8],
            "accuracy_high": [0.6, 0.9, 0.7, 1.0],
            "cost": [1.0, 2.0, 1.5, 4.0],
        }
    )
    axis = accuracy_against_cost(table, "GFLOPs", "n = 2 benchmarks").axes[0]
    assert axis.get_xlabel() == "cost per answer (GFLOPs, log scale)\nn = 2 benchmarks"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["GRIP", "Token norm", "All tokens"]
    grip = next(line for line in axis.lines if line.get_label() == "GRIP")
    assert list(zip(grip.get_xdata(), grip.get_ydata(), strict=True)) == [(1.5, 0.6), (2.0, 0.8)]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "1.5", "2", "3", "4"]
