"""One look for every figure: each method keeps its color, marker and dashes wherever it is drawn.

The colors are those of Okabe and Ito (2008) and, beyond them, of Paul Tol's "muted" set, which readers with any common
color vision can tell apart; the few beyond those are Tol's "vibrant". Where a color comes twice, the marker and the
dashes differ: solid before the language model, dash-dotted inside it, dashed with supervision, dotted for GRPO trained
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import seaborn as sns

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, WARMUP

INK, QUIET, RULE = "#1f2430", "#6b7280", "#e5e7eb"
BETTER, UNDECIDED, WORSE = "#0072b2", "#8a8f98", "#b3282d"
SOLID: tuple[int, ...] = ()
DASHED, DOTTED, DASH_DOT = (4, 2), (1, 2), (6, 2, 1, 2)


@dataclass(frozen=True)
class Style:
    """How a method's line is drawn; `dashes` as matplotlib's (on, off, ...), empty for a solid line."""

    color: str
    marker: str
    dashes: tuple[int, ...] = SOLID
    width: float = 1.4
    size: float = 5.0


STYLES = {
    GRIP: Style("#d55e00", "o", width=3.0, size=7.5),
    WARMUP: Style("#e69f00", "o", DASHED, width=2.0, size=5.5),
    "random": Style("#8a8f98", "X", DASHED),
    "grid": Style("#332288", "s"),
    "pooling": Style("#882255", "D"),
    "norm": Style("#999933", "v"),
    "encoder_attention": Style("#0072b2", "^"),
    "text_similarity": Style("#cc79a7", "P"),
    "divprune": Style("#009e73", ">"),
    "visionzip": Style("#117733", "h"),
    "prumerge": Style("#aa4499", "p"),
    "vispruner": Style("#661100", "d"),
    "cdpruner": Style("#44aa99", "8"),
    "holov": Style("#6699cc", "*"),
    "fastv": Style("#56b4e9", "<"),
    "fastv_inside": Style("#56b4e9", "<", DASH_DOT),
    "sparsevlm": Style("#882255", "v", DASH_DOT),
    "pyramiddrop": Style("#009e73", "^", DASH_DOT),
    "dart": Style("#332288", "X", DASH_DOT),
    "gumbel": Style("#0072b2", "s", DASHED),
    "soft_topk": Style("#44aa99", "D", DASHED),
    "diffprune": Style("#cc79a7", "P", DASHED),
    "distill": Style("#661100", "v", DASHED),
    "only_2": Style("#ee7733", "v", DOTTED),
    "only_7": Style("#cc3311", "s", DOTTED),
    "only_72": Style("#ee3377", "D", DOTTED),
    "mixture": Style("#aa3377", "P", DOTTED),
    "no_warmup": Style("#999933", "X", DOTTED),
    "no_warmup_no_kl": Style("#117733", "^", DOTTED),
    FULL: Style("#1f2430", "", SOLID, width=1.2),
    NO_IMAGE: Style("#1f2430", "", DOTTED, width=1.2),
}
SPARE = (
    Style("#0072b2", "h", DASH_DOT),
    Style("#cc79a7", "p", DASH_DOT),
    Style("#117733", "d", DASHED),
    Style("#aa4499", "8", DASHED),
    Style("#6699cc", "*", DASHED),
)


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method: a known one's own, for others the spare ones in turn."""
    others = sorted(set(methods) - set(STYLES))
    return STYLES | {name: SPARE[i % len(SPARE)] for i, name in enumerate(others)}


def use_theme() -> None:
    """Set seaborn's theme; every figure function calls it first, so that figures do not depend on what ran before."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        font="sans-serif",
        rc={
            "font.sans-serif": [
                "DejaVu Sans",
                "Verdana",
            ],  # of the same widths, for SVG text where the first is missing
            "axes.edgecolor": "#9ca3af",
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.labelcolor": INK,
            "axes.labelsize": 10.5,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "figure.facecolor": "white",
            "grid.color": RULE,
            "legend.frameon": False,
            "text.color": INK,
            "xtick.color": QUIET,
            "xtick.labelsize": 9,
            "ytick.color": QUIET,
            "ytick.labelsize": 9,
        },
    )
