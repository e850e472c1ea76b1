"""A table as colored cells with words in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from grip_core.figures.arms import arm_label
from grip_core.figures.column_width import SMALL, wrapped
from grip_core.figures.palette import INK, QUIET, RULE

MISSING = "\N{EN DASH}"
LIGHTNESS = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue
SIDE = 1.1  # inches that the names of rows may take


def draw_cells(
    axis: Axes, values: pd.DataFrame, words: pd.DataFrame, colors: str, limits: tuple[float, float]
) -> AxesImage:
    """A cell a value, colored between `limits`; a value that is NaN is a grey cell. `words` has the same rows and
    columns."""
    axis.grid(visible=False)
    axis.set_facecolor(RULE)
    image = axis.imshow(values.to_numpy(float), cmap=colors, vmin=limits[0], vmax=limits[1], aspect="auto")
    axis.set_xticks(range(values.shape[1]), [str(name) for name in values.columns])
    axis.set_yticks(range(values.shape[0]), [wrapped(arm_label(str(name)), SIDE, SMALL) for name in values.index])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(values.to_numpy(float)):
        dark = np.asarray(image.cmap(image.norm(value)))[:3] @ LIGHTNESS < 0.5
        text, color = (MISSING, QUIET) if np.isnan(value) else (words.iat[row, column], "white" if dark else INK)
        axis.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=color)
    return image
