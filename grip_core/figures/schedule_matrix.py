"""How well each way of training does at each budget of the test, and against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from grip_core.figures.cells import draw_cells
from grip_core.figures.column_width import PAGE, column_theme, finish, legend_above
from grip_core.figures.palette import INK, Style

COLORS = "RdBu"  # blue is better, as everywhere
LEAST = 1.0  # points: where the colors end at least, or noise would be as vivid as an effect
OUTLINE: dict[str, Any] = {"fill": False, "edgecolor": INK, "lw": 0.8, "ls": (0, (2, 1.2))}
INSET = 0.03  # of a cell


def schedule_matrix(
    table: pd.DataFrame, look: Mapping[str, Style], note: str, *, width: float = PAGE, stale: bool = False
) -> Figure:
    """A row an arm in the order of `look`, a column a budget; `table` has arm, k, accuracy, difference (to the
    baseline, both shares) and unseen (whether the arm was not trained at k).

    A cell has the accuracy and, but for the baseline, the difference, in points; the difference is its color.
    """
    column_theme()
    baseline, *_ = look
    arms = [arm for arm in look if arm in set(table["arm"])]
    figure, axis = plt.subplots(figsize=(width, 0.34 * len(arms) + 1.1), layout="constrained")
    accuracy, difference, unseen = (
        table.pivot(index="arm", columns="k", values=name).reindex(index=arms)
        for name in ("accuracy", "difference", "unseen")
    )
    unseen = unseen.eq(True)  # not where a cell is missing
    against = (100 * difference).map(lambda points: f"\n{points:+.1f}".replace("-", "\N{MINUS SIGN}"))
    words = (100 * accuracy).map("{:.1f}".format) + against
    words.loc[words.index == baseline] = (100 * accuracy).map("{:.1f}".format)
    most = max(LEAST, 100 * float(difference.abs().max(axis=None)))
    image = draw_cells(axis, 100 * difference, words, COLORS, (-most, most))
    for row, arm in enumerate(arms):
        for column, k in enumerate(unseen.columns):
            if unseen.loc[arm, k]:
                corner = column - 0.5 + INSET, row - 0.5 + INSET
                axis.add_patch(Rectangle(corner, 1 - 2 * INSET, 1 - 2 * INSET, **OUTLINE))
    axis.set(xlabel="kept visual tokens in the test", ylabel="")
    bar = figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02)
    bar.set_label("points against the baseline")
    bar.outline.set_visible(False)
    legend_above(figure, [Rectangle((0, 0), 1, 1, label="budget that training did not draw", **OUTLINE)])
    return finish(figure, note, stale)
