"""A claim's result as a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from grip_core.claims.results import NOT_RUN, Finding, Result
from grip_core.claims.schema import Unit
from grip_core.evaluation.names import benchmark_label, label
from grip_core.evaluation.words import ONE_SEED, listed

NAMED = 3
UNITS: dict[Unit, str] = {"accuracy": "points", "time": "% of the time"}


def sentence(result: Result) -> str:
    """The verdict, where it holds, the claim, and what decides it or why it is not judged."""
    finding = result.finding
    where = f"{result.setting.label} ({listed([benchmark_label(name) for name in result.setting.benchmarks])})"
    said = f"{finding.verdict.capitalize()} on {where}: {result.claim.words}"
    effect = "" if math.isnan(finding.effect) else _effect(finding, result.claim.unit)
    if finding.verdict == NOT_RUN:
        said += f"; {finding.reason}." + (f" It describes, and decides nothing: {effect}." if effect else "")
    else:
        said += f"; what decides it is {effect}."
    if finding.verdict != NOT_RUN and result.seeds == 1:
        said += f" {ONE_SEED}."
    return said + (
        f" Its exported answers are stale, for these have changed: {_few(result.stale)}." if result.stale else ""
    )


def _few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])


def _effect(finding: Finding, unit: Unit) -> str:
    places = "over all budgets" if finding.k == "all" else f"at k = {finding.k}"
    numbers = [_signed(value) for value in (finding.effect, finding.low, finding.high)]
    return (
        f"{label(finding.method)} against {label(finding.other)} {places} "
        f"({numbers[0]} {UNITS[unit]}, [{numbers[1]}, {numbers[2]}])"
    )


def _signed(share: float) -> str:
    """A share in hundredths, with a real minus."""
    rounded = round(100 * share, 1) + 0.0  # no minus before a zero
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")
