"""Many methods' lines in one panel: those to be looked at stand out, the others stay in the background."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from grip_core.evaluation.names import label, share_label
from grip_core.figures.groups import REFERENCES, grouped
from grip_core.figures.palette import QUIET, Style, styles

GREY, GREYNESS = (0.72, 0.74, 0.77), 0.6
LEGEND_COLUMNS = 5
NO_LINE = Style("none", "", width=0.0)
Entry = TypeVar("Entry")


def looks(methods: Iterable[str], emphasised: Collection[str]) -> dict[str, Style]:
    """Each method's style; those neither emphasised nor references are thin, small and greyish."""
    groups = grouped(methods)
    own = styles(name for names in groups.values() for name in names)
    return {
        name: own[name] if name in emphasised or title == REFERENCES else muted(own[name])
        for title, names in groups.items()
        for name in names
    }


def muted(style: Style) -> Style:
    """The style, thinner, smaller and most of the way to grey."""
    red, green, blue = ((1 - GREYNESS) * own + GREYNESS * grey for own, grey in zip(to_rgb(style.color), GREY))
    return replace(style, color=to_hex((red, green, blue)), width=0.9, size=3.6)


def line_style(style: Style):
    """The dashes as matplotlib takes them."""
    return (0, style.dashes) if style.dashes else "-"


def draw_line(axis: Axes, curve: pd.DataFrame, x: str, y: str, name: str, style: Style) -> None:
    """One method's line; the wider, the further in front."""
    ordered = curve.sort_values(x)
    axis.plot(
        ordered[x],
        ordered[y],
        color=style.color,
        marker=style.marker,
        markersize=style.size,
        markeredgewidth=0.4,
        markeredgecolor="white",
        linewidth=style.width,
        linestyle=line_style(style),
        label=name,
        zorder=2 + style.width,
    )


def budget_axis(axis: Axes, budgets: Sequence[int], n_visual: int) -> None:
    """A logarithmic x-axis with a tick at every budget, in tokens and as a share of `n_visual`."""
    ticks = sorted(int(k) for k in budgets)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{k}\n{share_label(k, n_visual)}" for k in ticks])
    axis.set_xlabel(f"kept visual tokens (share of {n_visual})")


def grouped_legend(figure: Figure, look: Mapping[str, Style], emphasised: Collection[str], note: str) -> None:
    """A legend of methods in their groups, the emphasised in bold, with `note` on top."""
    groups = {title: {label(name): look[name] for name in names} for title, names in grouped(look).items()}
    column_legend(figure, groups, [label(name) for name in emphasised], note)


def column_legend(figure: Figure, groups: Mapping[str, Mapping[str, Style]], bold: Collection[str], note: str) -> None:
    """A legend below the panels in columns: over each group, its words and their lines, the group's title in bold."""
    entries = [
        [_handle(title), *(_handle(words, style) for words, style in lines.items())] for title, lines in groups.items()
    ]
    columns = newspaper(entries, LEGEND_COLUMNS)
    legend = figure.legend(
        handles=[handle or _handle("") for column in columns for handle in column],
        loc="outside lower center",
        ncols=len(columns),
        fontsize=9,
        title=note,
        title_fontproperties={"size": 9},
        alignment="left",
        handlelength=3.2,
    )
    legend.get_title().set_color(QUIET)
    for text in legend.get_texts():
        text.set_fontweight("bold" if text.get_text() in {*bold, *groups} else "normal")


def newspaper(groups: Sequence[Sequence[Entry]], columns: int) -> list[list[Entry | None]]:
    """The groups' entries flowing through at most so many columns of equal, least height; None where a place is empty.

    A group's first entry, its heading, is never the last of a column.
    """
    height = max(2, -(-sum(len(group) for group in groups) // columns))
    while len(places := _flow(groups, height)) > columns * height:
        height += 1
    places += [None] * (-len(places) % height)
    return [places[start : start + height] for start in range(0, len(places), height)]


def _flow(groups: Sequence[Sequence[Entry]], height: int) -> list[Entry | None]:
    places: list[Entry | None] = []
    for group in groups:
        if len(places) % height == height - 1:
            places.append(None)
        places += group
    return places


def _handle(words: str, style: Style = NO_LINE) -> Line2D:
    return Line2D(
        [],
        [],
        color=style.color,
        marker=style.marker,
        ms=style.size,
        lw=style.width,
        ls=line_style(style),
        label=words,
    )
