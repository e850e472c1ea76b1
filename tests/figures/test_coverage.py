from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.figures.coverage import TOP, coverage_curves, keep_heat_maps


@pytest.fixture
def shares() -> pd.DataFrame:
    """5 x 5 patches at k = 1; the grid keeps one patch always."""
    row, column = np.indices((5, 5)).reshape(2, -1)
    share = {"grip": np.arange(25) / 300, "grid": (np.arange(25) == 12) * 1.0}
    parts = [
        pd.DataFrame({"method": name, "row": row, "column": column, "share": values, "n": 1200})
        for name, values in share.items()
    ]
    return pd.concat(parts)


def test_maps_are_the_table_on_one_scale(shares):
    figure = keep_heat_maps(shares, 1)
    figure.draw_without_rendering()
    grip, grid, bar = figure.axes
    assert [axis.get_title(loc="left") for axis in (grip, grid)] == ["GRIP\nn = 1,200", "Grid\nn = 1,200"]
    np.testing.assert_allclose(np.ravel(grip.images[0].get_array()), np.arange(25) / 300)
    assert grip.get_ylim()[0] > grip.get_ylim()[1]  # the first row on top
    assert grip.images[0].get_clim() == grid.images[0].get_clim() == (0.0, TOP / 25)
    assert "share of answers" in bar.get_ylabel()
    assert "k = 1 of 25 (evenly: 4.0% each)" in figure.get_suptitle()


def test_the_scale_ends_at_the_largest_share_if_that_is_less(shares):
    figure = keep_heat_maps(shares[shares["method"] == "grip"], 1)
    assert figure.axes[0].images[0].get_clim() == (0.0, 24 / 300)


def test_curves_are_the_distances_of_pruned_budgets():
    records = [("one", "grip", 4, 2.0, 30), ("one", "grip", 8, 1.0, 30), ("one", "grid", 4, 1.5, 10)]
    table = pd.DataFrame(
        [*records, ("two", "grip", 4, 3.0, 30), ("one", "full", 16, 0.0, 10)],
        columns=["benchmark", "method", "k", "distance", "n"],
    )
    figure = coverage_curves(table, 16)
    one, two = figure.axes
    lines = {line.get_label(): line for line in one.lines}
    assert set(lines) == {"grip", "grid"}
    np.testing.assert_array_equal(lines["grip"].get_xydata(), [[4, 2.0], [8, 1.0]])
    np.testing.assert_array_equal(two.lines[0].get_xydata(), [[4, 3.0]])
    assert "patches" in one.get_ylabel()
    assert one.get_ylim()[0] == 0.0
    assert "10 to 30 answers" in figure.legends[0].get_title().get_text()
