"""Two factors at once: the score of every pair of levels and, beside it, how far seeds are apart."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from grip_core.figures.arms import ordered
from grip_core.figures.cells import draw_cells
from grip_core.figures.column_width import PAGE, column_theme, finish

SCORE_COLORS, SPREAD_COLORS = "cividis", "Purples"


def effects_heat_map(
    table: pd.DataFrame,
    factors: tuple[str, str],
    quantities: tuple[str, str],
    note: str,
    *,
    width: float = PAGE,
    stale: bool = False,
) -> Figure:
    """`table` has row_level, column_level, mean, spread and seeds; a pair without a row, or with NaN, is a grey cell.

    `factors` names what is in rows and in columns, `quantities` what mean and spread are. The panels are side by side
    on a page, one above the other in a column.
    """
    column_theme()
    rows, columns = (ordered(table[name]) for name in ("row_level", "column_level"))
    across = width >= PAGE
    height = 0.32 * len(rows) + 0.75
    figure, axes = plt.subplots(
        1 if across else 2,
        2 if across else 1,
        figsize=(width, height * (1 if across else 2) + 0.3),
        layout="constrained",
    )
    mean, spread, seeds = (
        table.pivot(index="row_level", columns="column_level", values=name).reindex(index=rows, columns=columns)
        for name in ("mean", "spread", "seeds")
    )
    words = mean.map("{:.3f}".format)
    counted = spread.map("{:.3f}".format) + seeds.map("\nn = {:.0f}".format)
    limits = float(table["mean"].min()), float(table["mean"].max())
    drawn = (
        (mean, words, SCORE_COLORS, limits),
        (spread, counted, SPREAD_COLORS, (0.0, float(table["spread"].max()))),
    )
    for axis, parts, title in zip(axes, drawn, quantities, strict=True):
        image = draw_cells(axis, *parts)
        axis.set_title(title)
        axis.set(xlabel=factors[1], ylabel=factors[0])
        bar = figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)
    return finish(figure, note, stale)
