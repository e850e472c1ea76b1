"""The report: one HTML file that needs nothing else, with every sentence and number computed from the tables."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, WARMUP, benchmark_label, label, share_label
from grip_core.evaluation.tables import MEAN
from grip_core.evaluation.words import setting_sentence, verdict_sentences

TEMPLATE, STYLE = "report.html.j2", "style.css.j2"


@dataclass(frozen=True)
class Picture:
    """A figure of the report: PNG or SVG bytes with the words for those who cannot see it."""

    data: bytes
    kind: str
    alt: str

    @property
    def uri(self) -> str:
        """The figure as a data: address."""
        mime = {"png": "image/png", "svg": "image/svg+xml"}[self.kind]
        return f"data:{mime};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Cell:
    """A mean and half its interval's width, in percent; `best` marks the column's highest mean."""

    mean: str
    half: str
    best: bool


@dataclass(frozen=True)
class Grid:
    """A benchmark's table: a row a method, a column a budget, and its references' levels."""

    title: str
    budgets: Sequence[int]
    shares: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    full: Cell
    no_image: Cell


@dataclass(frozen=True)
class Findings:
    """What the report tells: headline.json, the interval table, the summary of methods, and the ledger of claims."""

    numbers: Mapping[str, Any]
    table: pd.DataFrame
    summary: pd.DataFrame
    claims: pd.DataFrame


def render_report(
    findings: Findings, pictures: Mapping[str, Picture], environment: Mapping[str, Mapping[str, str]]
) -> str:
    """The report as HTML. `environment` maps a heading to names and values.

    `pictures` has every figure of the template; "time" and "cost" may be missing, where no costs were measured.
    """
    numbers, table = findings.numbers, findings.table
    differences = numbers["difference"].values()
    return page(
        TEMPLATE,
        setting=setting_sentence(numbers),
        verdicts=verdict_sentences(numbers),
        tiles=tiles(numbers),
        confidence=f"{numbers['confidence']:.0%}",
        comparisons=len(differences),
        chance=f"{(1 - numbers['confidence']) * len(differences):.1f}",
        seeds={seed: f"{100 * value:.1f}%" for seed, value in numbers["grip_seeds"].items()},
        grids=[benchmark_grid(table, name) for name in [MEAN, *sorted(set(table["benchmark"]) - {MEAN})]],
        claims=claim_lines(findings.claims),
        summary=summary_lines(findings.summary),
        training={run: training_sentence(summary) for run, summary in numbers["training"].items()},
        pictures=pictures,
        environment=environment,
    )


def page(template: str, **values: Any) -> str:
    """A template beside this module, filled in; all of them share one style."""
    jinja = Environment(
        loader=PackageLoader("grip_core.figures", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return jinja.get_template(template).render(style=STYLE, **values)


def claim_lines(claims: pd.DataFrame) -> list[tuple[str, str]]:
    """The verdict and the sentence of every claim that was judged, then of those that were not."""
    order = claims.assign(late=claims["verdict"] == "not run").sort_values("late", kind="stable")
    return list(order[["verdict", "sentence"]].itertuples(index=False, name=None))


def summary_lines(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """A method's name, and its numbers as text, empty where there are none."""
    return [
        (
            label(row.method),
            _percent(row.iqm),
            f"{_percent(row.iqm_low)} to {_percent(row.iqm_high)}" if pd.notna(row.iqm_low) else "",
            _percent(row.gap),
            _percent(row.improvement),
            _percent(row.hypervolume),
            f"{_percent(row.hypervolume_low)} to {_percent(row.hypervolume_high)}" if pd.notna(row.hypervolume) else "",
            str(row.seeds),
        )
        for row in summary.itertuples()
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}") if pd.notna(value) else ""


def training_sentence(summary: Mapping[str, Any]) -> str:
    """One run's summary in words."""
    parts = []
    if "kept_share" in summary:
        parts.append(f"{summary['kept_share']:.0%} of the training questions carry a signal and were used")
    if "spearman" in summary:
        parts.append(f"rank correlation of reward and validation accuracy {summary['spearman']:+.2f}")
    if summary.get("diverged"):
        parts.append("the reward rose while validation accuracy fell")
    parts.append("no collapse" if summary["collapse"] == "no" else f"collapsed ({summary['collapse']})")
    return "; ".join(parts)


def tiles(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers at the top: value, name, explanation."""
    accuracy = numbers["accuracy"]
    others = {name: value for name, value in accuracy.items() if name in numbers["difference"] and name != WARMUP}
    best = max(others, key=others.__getitem__)
    span = accuracy[FULL] - accuracy[NO_IMAGE]
    kept = f"{(accuracy[GRIP] - accuracy[NO_IMAGE]) / span:.0%}" if span > 0 else "undefined"
    return [
        (f"{100 * accuracy[GRIP]:.1f}%", "GRIP", f"mean accuracy at k = {numbers['budgets']}"),
        (f"{100 * accuracy[WARMUP]:.1f}%", label(WARMUP), "the same scorer before GRPO"),
        (f"{100 * accuracy[best]:.1f}%", label(best), f"the best of {len(others)} others on these data"),
        (kept, "of the image's worth", "how far GRIP gets from no image to all tokens"),
    ]


def benchmark_grid(table: pd.DataFrame, benchmark: str) -> Grid:
    """One benchmark's table of means and intervals, GRIP and its warm-up first."""
    part = table[table["benchmark"] == benchmark]
    references = {name: part[part["method"] == name].iloc[0] for name in (FULL, NO_IMAGE)}
    pruned = part[~part["method"].isin(references)]
    budgets = sorted(int(k) for k in pruned["k"].unique())
    best = pruned.groupby("k")["accuracy"].max()
    names = sorted(set(pruned["method"]), key=lambda name: ({GRIP: 0, WARMUP: 1}.get(name, 2), label(name)))
    cells = pruned.set_index(["method", "k"])
    n_visual = int(references[FULL]["k"])
    return Grid(
        title=benchmark_label(benchmark),
        budgets=budgets,
        shares=[share_label(k, n_visual) for k in budgets],
        rows=[(label(name), [_cell(cells.loc[(name, k)], best[k]) for k in budgets]) for name in names],
        full=_cell(references[FULL]),
        no_image=_cell(references[NO_IMAGE]),
    )


def _cell(row: pd.Series, best: float | None = None) -> Cell:
    half = (row["high"] - row["low"]) / 2
    return Cell(f"{100 * row['accuracy']:.1f}", f"{100 * half:.1f}", row["accuracy"] == best)
