"""One look for every figure of an ablation: an arm keeps its color, marker and dashes wherever it is drawn.

Levels that are numbers get colors of one ramp, the larger the darker: part of matplotlib's "plasma", whose lightness
is monotonic, so that the order is seen with any color vision. Other levels get colors of Okabe and Ito (2008) and of
Paul Tol's "muted" set. The baseline is always the one dark, bold line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from grip_core.figures.palette import DASH_DOT, DASHED, DOTTED, INK, SOLID, Style

BASELINE = Style(INK, "o", width=2.2, size=4.5)
RAMP, LIGHTEST, DARKEST = "plasma", 0.72, 0.3  # its ends are too pale on white, or too near to the baseline
NAMED = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#882255", "#e69f00", "#999933")
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "<", ">", "d")
DASHES = (SOLID, DASHED, DOTTED, DASH_DOT)


def arm_styles(arms: Mapping[str, Mapping[str, str]], baseline: str) -> dict[str, Style]:
    """A style for each arm, the baseline first and the others by their levels, which is their order in every figure.

    `arms` has each arm's level by factor, all arms the same factors. The first factor decides the color. Where others
    vary too, or arms of the same levels differ in something else, marker and dashes tell that apart; where nothing
    does, the marker is the first factor's as well. Raises KeyError if the baseline is no arm.
    """
    levels = {arm: tuple(by_factor.values()) for arm, by_factor in arms.items()}
    ranks = [{level: rank for rank, level in enumerate(ordered(factor))} for factor in zip(*levels.values())]
    colors = _level_colors(list(ranks[0]))
    places: dict[str, tuple[int, ...]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for arm, own in levels.items():
        places[arm] = (*(rank[level] for rank, level in zip(ranks, own)), seen[own])
        seen[own] += 1
    others = sorted({place[1:] for place in places.values()})
    looks = {baseline: BASELINE}
    del places[baseline]
    for arm in sorted(places, key=places.__getitem__):
        first, turn = places[arm][0], others.index(places[arm][1:])
        marker = turn if len(others) > 1 else first
        looks[arm] = Style(colors[first], MARKERS[marker % len(MARKERS)], DASHES[turn % len(DASHES)], size=4.0)
    return looks


def arm_label(name: str) -> str:
    """An arm's, a factor's or a setting's name for readers; not `names.label`, for an arm may be called as a method."""
    return " ".join("KL" if word == "kl" else word for word in name.split("_"))


def ordered(levels: Iterable[str]) -> list[str]:
    """Each level once: numbers by their value, then the others as they come."""
    distinct = list(dict.fromkeys(levels))
    numbers = [level for level in distinct if _is_number(level)]
    return [*sorted(numbers, key=float), *(level for level in distinct if level not in numbers)]


def ramp(count: int) -> list[str]:
    """So many colors, darker and darker."""
    return [to_hex(colormaps[RAMP](place)) for place in np.linspace(LIGHTEST, DARKEST, count)]


def _level_colors(levels: list[str]) -> list[str]:
    numbers = sum(_is_number(level) for level in levels)
    return [*ramp(numbers), *(NAMED[i % len(NAMED)] for i in range(len(levels) - numbers))]


def _is_number(level: str) -> bool:
    try:
        float(level)
    except ValueError:
        return False
    return True
