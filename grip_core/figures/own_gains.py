"""What training adds to the warm-up at each budget, run by run, at the pipeline's own settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grip_core.evaluation.names import GRIP
from grip_core.figures.column_width import COLUMN, finish, handle, legend_above, panels
from grip_core.figures.palette import INK, STYLES, Style
from grip_core.seeds import numpy_random

ASIDE = 0.28  # of a budget's room, how far runs are moved to the left or right so that they can be told apart
RUN, MEAN = Style(STYLES[GRIP].color, "o", size=2.6), Style(INK, "D", size=3.6)


def own_gains(
    runs: pd.DataFrame, means: pd.DataFrame, note: str, *, width: float = COLUMN, stale: bool = False
) -> Figure:
    """`runs` has k and gain (a share), a row a run and budget; `means` has k, effect, low and high, in the order of the
    budgets. Drawn in points."""
    figure, (axis,), _ = panels(1, width, width, 1.9)
    place = {k: at for at, k in enumerate(means["k"])}
    aside = numpy_random(0, "own gains").uniform(-ASIDE, ASIDE, len(runs))
    look: dict[str, Any] = {"mec": "none", "alpha": 0.5, "zorder": 2}
    axis.plot(runs["k"].map(place) + aside, 100 * runs["gain"], RUN.marker, color=RUN.color, ms=RUN.size, **look)
    at = means["k"].map(place).to_numpy(float)
    axis.vlines(at, 100 * means["low"], 100 * means["high"], colors=MEAN.color, lw=1.4, zorder=3)
    axis.plot(at, 100 * means["effect"], MEAN.marker, color=MEAN.color, ms=MEAN.size, zorder=4)
    axis.axhline(0.0, color=INK, lw=0.8, zorder=1)
    axis.set_xticks(np.arange(len(place)), [str(k) for k in place])
    axis.set(xlabel="kept visual tokens", ylabel="points over the warm-up")
    legend_above(figure, [handle(Style(RUN.color, RUN.marker, width=0.0), "one run"), handle(MEAN, "mean, interval")])
    return finish(figure, note, stale)
