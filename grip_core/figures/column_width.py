"""What figures at the width of a paper's column or page share: sizes of text, panels, a legend, a caption, a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grip_core.figures.arms import arm_label
from grip_core.figures.lines import line_style
from grip_core.figures.palette import QUIET, Style, use_theme

COLUMN, PAGE = 3.3, 6.9  # inches: the widths of a column and of a page of two of them
TEXT, SMALL, CAPTION = 7.5, 6.5, 6.5  # points
LINE = 1.3  # a line's height as a multiple of its text's size
EM = 0.56  # a letter's width as a share of its height, on average and rounded up
HANDLE = 4.5  # of a legend's entry, what is not words, in heights of its letters
STALE = "stale"


def panels(
    count: int, width: float, least: float, height: float, *, sharey: bool = True
) -> tuple[Figure, list[Axes], Sequence[Axes]]:
    """The figure, `count` panels that share their x-axis, and those that have none below.

    Panels are at least `least` inches wide, and `height` high with what is around them.
    """
    column_theme()
    columns = max(1, min(count, int(width // least)))
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, height * rows + 0.7),
        squeeze=False,
        sharex=True,
        sharey=sharey,
        layout="constrained",
    )
    for axis in axes.flat[count:]:
        axis.remove()
    shown = list(axes.flat[:count])
    lowest = shown[-columns:]
    for axis in lowest:
        axis.tick_params(labelbottom=True)
    return figure, shown, lowest


def column_theme() -> None:
    """The theme of all figures, with text small enough for a column; what it sets, `use_theme` sets back."""
    use_theme()
    mpl.rcParams.update(
        {
            "axes.labelsize": TEXT,
            "axes.linewidth": 0.8,
            "axes.titlesize": TEXT,
            "grid.linewidth": 0.6,
            "legend.fontsize": SMALL,
            "xtick.labelsize": SMALL,
            "xtick.major.pad": 2.0,
            "xtick.major.size": 2.5,
            "xtick.major.width": 0.8,
            "ytick.labelsize": SMALL,
            "ytick.major.pad": 2.0,
            "ytick.major.size": 2.5,
            "ytick.major.width": 0.8,
        }
    )


def finish(figure: Figure, note: str, stale: bool) -> Figure:
    """The figure with `note` below it and, if it is stale, with a mark over it that cannot be missed."""
    words = wrapped(note, figure.get_size_inches()[0], CAPTION)
    _add_lines(figure, words.count("\n"), CAPTION)
    width, height = figure.get_size_inches()
    figure.supxlabel(words, x=0.01, ha="left", fontsize=CAPTION, color=QUIET)
    if stale:
        size = 72 * min(width / 3.5, height / 1.5)
        look = {"fontsize": size, "weight": "bold", "color": "grey", "alpha": 0.35, "zorder": 10.0}
        figure.text(0.5, 0.5, STALE, ha="center", va="center", gid=STALE, **look)
    return figure


def wrapped(text: str, width: float, size: float) -> str:
    """The text in lines that fit into `width` inches at `size` points."""
    return fill(text, max(8, int(width * 72 / (size * EM))), break_long_words=False)


def arm_legend(figure: Figure, look: Mapping[str, Style]) -> None:
    """A legend of arms above the panels, in the order of `look`."""
    room = figure.get_size_inches()[0] - HANDLE * SMALL / 72
    legend_above(figure, [handle(style, wrapped(arm_label(arm), room, SMALL)) for arm, style in look.items()])


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend above the panels in as many columns as fit."""
    labels = [str(item.get_label()) for item in handles]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    room = figure.get_size_inches()[0] / ((longest * EM + HANDLE) * SMALL / 72)
    columns = max(1, min(len(handles), int(room)))
    rows = -(-len(handles) // columns)
    # Entries run down the columns: of each row the one with the most lines makes its height.
    lines = sum(1 + max(label.count("\n") for label in labels[row::rows]) for row in range(rows))
    _add_lines(figure, lines - 1, SMALL)
    look = {"handlelength": 2.4, "columnspacing": 1.0, "labelspacing": 0.25, "borderpad": 0.2, "borderaxespad": 0.2}
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, **look)


def _add_lines(figure: Figure, lines: int, size: float) -> None:
    """Make the figure higher, so that further lines of text take nothing from the panels."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + lines * LINE * size / 72)


def handle(style: Style, words: str) -> Line2D:
    """A legend's entry."""
    line = {"lw": style.width, "ls": line_style(style), "color": style.color}
    return Line2D([], [], marker=style.marker, ms=style.size, label=words, **line)
