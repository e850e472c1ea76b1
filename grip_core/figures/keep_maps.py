"""Keep maps: which patches of real test images are kept, by method and by budget, and what the model then answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from grip_core.evaluation.names import share_label
from grip_core.figures.palette import BETTER, INK, QUIET, WORSE, use_theme

DIM = np.array([31, 36, 48])  # patches that are not kept fade towards this
FADE = 0.78
WIDE, NARROW = 2.6, 1.6  # inches a map
ANSWER_PER_INCH, TITLE_PER_INCH = 7, 9  # characters that fit
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
    headings = [[answered.method for answered in example.answered] for example in examples]
    return _maps(examples, grid, [_question(example) for example in examples], headings, WIDE)


def shrinking(examples: Sequence[KeepMap], grid: tuple[int, int]) -> Figure:
    """What is seen as the budget shrinks: a row for each example, which holds one method's answers at every budget.

    Columns are those budgets, in tokens and as a share, from all tokens on. Raises ValueError unless all rows have the
    same ones.
    """
    titles = [f"{_question(example)} ({example.answered[-1].method})" for example in examples]
    return _maps(examples, grid, titles, _budgets(examples, grid), NARROW)


def methods_by_budgets(methods: Sequence[KeepMap], grid: tuple[int, int]) -> Figure:
    """One example, a row for each method, a column for each budget; rows as those of `shrinking`."""
    titles = [example.answered[-1].method for example in methods]
    figure = _maps(methods, grid, titles, _budgets(methods, grid), NARROW)
    width = int(TITLE_PER_INCH * NARROW * len(methods[0].answered))
    words = shorten(_question(methods[0]), width, placeholder=ELLIPSIS)
    figure.suptitle(words, x=0.125, y=0.9 + 0.5 / figure.get_figheight(), ha="left", fontsize=12)
    return figure


def _question(example: KeepMap) -> str:
    return f"{example.benchmark}: {example.question} \N{RIGHTWARDS ARROW} {example.gold}"


def _budgets(examples: Sequence[KeepMap], grid: tuple[int, int]) -> list[list[str]]:
    n_visual = grid[0] * grid[1]
    sizes = [[n_visual if item.kept is None else len(item.kept) for item in example.answered] for example in examples]
    if any(row != sizes[0] for row in sizes):
        raise ValueError(f"the rows of one figure have different budgets: {sizes}")
    return [[_budget(k, n_visual) for k in sizes[0]]] * len(examples)


def _budget(k: int, n_visual: int) -> str:
    if k == n_visual:
        return f"all {k} tokens"
    return f"{k} {'token' if k == 1 else 'tokens'} ({share_label(k, n_visual)})"


def _maps(
    examples: Sequence[KeepMap],
    grid: tuple[int, int],
    titles: Sequence[str],
    headings: Sequence[Sequence[str]],
    inches: float,
) -> Figure:
    """A row for each example with its title, each of its answers under its heading, in maps so many inches wide."""
    use_theme()
    columns = len(examples[0].answered)
    width = int(TITLE_PER_INCH * inches * columns)
    figure, axes = plt.subplots(
        len(examples),
        columns,
        figsize=(inches * columns, (inches + 0.8) * len(examples)),
        squeeze=False,
        gridspec_kw={"wspace": 0.06, "hspace": 0.8 / inches},
    )
    for row, example, title, heads in zip(axes, examples, titles, headings, strict=True):
        for axis, answered, heading in zip(row, example.answered, heads, strict=True):
            _draw(axis, example.image, answered, grid, heading, int(ANSWER_PER_INCH * inches))
        row[0].set_title(shorten(title, width, placeholder=ELLIPSIS) + "\n", loc="left", fontsize=11)
    return figure


def fade(image: np.ndarray, kept: Sequence[int], grid: tuple[int, int]) -> np.ndarray:
    """The image, uint8 (H, W, 3), with every patch darkened that is not kept. Patches are numbered row by row."""
    height, width = image.shape[:2]
    row_H = np.arange(height) * grid[0] // height
    column_W = np.arange(width) * grid[1] // width
    shown_HW = np.isin(row_H[:, None] * grid[1] + column_W[None], kept)
    dimmed = ((1 - FADE) * image + FADE * DIM).astype(np.uint8)
    return np.where(shown_HW[..., None], image, dimmed)


def _draw(axis: Axes, image: np.ndarray, answered: Answered, grid: tuple[int, int], heading: str, width: int) -> None:
    axis.set_axis_off()
    axis.imshow(image if answered.kept is None else fade(image, answered.kept, grid), interpolation="nearest")
    cell_height, cell_width = image.shape[0] / grid[0], image.shape[1] / grid[1]
    for index in answered.kept or ():
        row, column = divmod(index, grid[1])
        corner = (column * cell_width - 0.5, row * cell_height - 0.5)
        axis.add_patch(Rectangle(corner, cell_width, cell_height, fill=False, ec="white", lw=0.8))
    axis.text(0.0, 1.03, heading, transform=axis.transAxes, fontsize=9.5, color=QUIET, va="bottom")
    sign, color = (RIGHT, BETTER) if answered.correct else (WRONG, WORSE)
    axis.text(
        0.0,
        -0.04,
        f"{sign} {shorten(answered.answer, width, placeholder=ELLIPSIS)}",
        transform=axis.transAxes,
        fontsize=10.5,
        color=color,
        weight="bold",
        va="top",
    )
    axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, ec=INK, lw=0.6))
