"""Keep maps: which patches of real test images each method keeps, and what the model then answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from grip_core.figures.palette import BETTER, INK, QUIET, WORSE, use_theme

DIM = np.array([31, 36, 48])  # patches that are not kept fade towards this
FADE = 0.78
ANSWER_WIDTH = 18  # characters
ELLIPSIS = " \N{HORIZONTAL ELLIPSIS}"
RIGHT, WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"


@dataclass(frozen=True)
class Answered:
    """What one method keeps of an example, and the model's answer to it. `kept` is None where nothing is pruned."""

    method: str
    kept: Sequence[int] | None
    answer: str
    correct: bool


@dataclass(frozen=True)
class KeepMap:
    """One example: pixels uint8 (H, W, 3), its question and gold answer, and the methods' answers."""

    image: np.ndarray
    benchmark: str
    question: str
    gold: str
    answered: Sequence[Answered]


def keep_maps(examples: Sequence[KeepMap], grid: tuple[int, int]) -> Figure:
    """A row for each example, a column for each method; `grid` is the image's patches (rows, columns).

    Every example must have the same methods, in the same order.
    """
    use_theme()
    columns = len(examples[0].answered)
    figure, axes = plt.subplots(
        len(examples),
        columns,
        figsize=(2.6 * columns, 3.4 * len(examples)),
        squeeze=False,
        gridspec_kw={"wspace": 0.06, "hspace": 0.32},
    )
    for row, example in zip(axes, examples, strict=True):
        for axis, answered in zip(row, example.answered, strict=True):
            _draw(axis, example.image, answered, grid)
        row[0].set_title(
            f"{example.benchmark}:  {example.question}  \N{RIGHTWARDS ARROW}  {example.gold}\n",
            loc="left",
            fontsize=11,
        )
    return figure


def fade(image: np.ndarray, kept: Sequence[int], grid: tuple[int, int]) -> np.ndarray:
    """The image, uint8 (H, W, 3), with every patch darkened that is not kept. Patches are numbered row by row."""
    height, width = image.shape[:2]
    row_H = np.arange(height) * grid[0] // height
    column_W = np.arange(width) * grid[1] // width
    shown_HW = np.isin(row_H[:, None] * grid[1] + column_W[None], kept)
    dimmed = ((1 - FADE) * image + FADE * DIM).astype(np.uint8)
    return np.where(shown_HW[..., None], image, dimmed)


def _draw(axis: Axes, image: np.ndarray, answered: Answered, grid: tuple[int, int]) -> None:
    axis.set_axis_off()
    axis.imshow(image if answered.kept is None else fade(image, answered.kept, grid), interpolation="nearest")
    cell_height, cell_width = image.shape[0] / grid[0], image.shape[1] / grid[1]
    for index in answered.kept or ():
        row, column = divmod(index, grid[1])
        corner = (column * cell_width - 0.5, row * cell_height - 0.5)
        axis.add_patch(Rectangle(corner, cell_width, cell_height, fill=False, ec="white", lw=0.8))
    axis.text(0.0, 1.03, answered.method, transform=axis.transAxes, fontsize=9.5, color=QUIET, va="bottom")
    sign, color = (RIGHT, BETTER) if answered.correct else (WRONG, WORSE)
    axis.text(
        0.0,
        -0.04,
        f"{sign} {shorten(answered.answer, ANSWER_WIDTH, placeholder=ELLIPSIS)}",
        transform=axis.transAxes,
        fontsize=10.5,
        color=color,
        weight="bold",
        va="top",
    )
    axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, ec=INK, lw=0.6))
