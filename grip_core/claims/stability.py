"""The verdict on whether training is reliable, from the tables of all ablations.

The claim has four parts, each an effect that has to exceed a bar:

collapse   minus the share of runs that collapse, above minus `collapse`; Wilson's interval
gain       test accuracy minus the warm-up's, at the headline budgets, above `gain`
budgets    the same at every single budget above minus `margin`
carries    test accuracy minus that of each scorer trained at one budget alone, at that budget, above minus `margin`

All but the first are over new seeds and new images. A part of several effects is supported if each of its intervals
lies above the bar, which needs no correction for their number, and contradicted if, of intervals that hold all at once
(Bonferroni), any lies below it. The first three are of the runs of the pipeline's own settings, each counted once
however many ablations have exported it. The claim is supported if all parts are, contradicted if any is, and else
undecided; a part without data is not run, and supports nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from grip_core.claims.schema import Stability
from grip_core.evaluation.own_settings import HEADLINE
from grip_core.statistics.survival import wilson_interval
from grip_core.statistics.verdict import superiority

PartName = Literal["collapse", "gain", "budgets", "carries"]
NOT_RUN = "not run"
OWN = "{}"
"""The settings, as the tables have them, of a run of nothing but params.yaml."""


@dataclass(frozen=True)
class Part:
    """One part of the claim: its decisive effect, in the unit of shares, and the verdict."""

    name: PartName
    effect: float
    low: float
    high: float
    bar: float
    n: int
    """Runs; of `carries`, scorers of one budget."""
    k: str
    """The budget of the decisive effect; empty where it is none's."""
    verdict: str


def judge_stability(
    claim: Stability, runs: pd.DataFrame, rises: pd.DataFrame, carry: pd.DataFrame, confidence: float
) -> tuple[str, list[Part]]:
    """The verdict and its parts. `runs` and `carry` are tables of grip_core/evaluation/ablations.py, of all ablations,
    `rises` is that of own_settings.py."""
    whole = rises["at"] == HEADLINE
    parts = [
        _collapse(claim, of_own_settings(runs), confidence),
        _decide("gain", rises[whole].assign(k=""), claim.gain, rises["seeds"].max()),
        _decide("budgets", rises[~whole].assign(k=rises["at"]), -claim.margin, rises["seeds"].max()),
        _decide("carries", carry, -claim.margin, len(carry)),
    ]
    verdicts = [part.verdict for part in parts]
    if set(verdicts) == {NOT_RUN}:
        return NOT_RUN, parts
    if "contradicted" in verdicts:
        return "contradicted", parts
    return "supported" if set(verdicts) == {"supported"} else "undecided", parts


def distinct(runs: pd.DataFrame) -> pd.DataFrame:
    """Each run once: runs of equal settings and seed are one run that several ablations have exported."""
    return runs.drop_duplicates(["settings", "seed"])


def of_own_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Those with nothing but params.yaml's settings, each once."""
    return distinct(runs[runs["settings"] == OWN])


def _collapse(claim: Stability, runs: pd.DataFrame, confidence: float) -> Part:
    if runs.empty:
        return _not_run("collapse", -claim.collapse)
    found = wilson_interval(int(runs["collapsed"].sum()), len(runs), confidence)
    effect, low, high = -found.effect, -found.high, -found.low
    said = superiority(low, high, -claim.collapse)
    return Part("collapse", effect, low, high, -claim.collapse, len(runs), "", said)


def _decide(name: PartName, effects: pd.DataFrame, bar: float, n: int) -> Part:
    """By the effect whose interval reaches lowest; a single run has none, and decides nothing."""
    if effects.empty:
        return _not_run(name, bar)
    bounds = effects[["low", "corrected_high"]].astype(float)
    said = [superiority(low, high, bar) for low, high in bounds.itertuples(index=False)]
    verdict = "contradicted" if "contradicted" in said else "supported" if set(said) == {"supported"} else "undecided"
    reach = bounds["corrected_high"] if verdict == "contradicted" else bounds["low"]
    place = reach.fillna(-math.inf).idxmin()
    effect, low, high, corrected = (
        float(effects.at[place, key]) for key in ("effect", "low", "high", "corrected_high")
    )
    high = corrected if verdict == "contradicted" else high
    return Part(name, effect, low, high, bar, n, str(effects.at[place, "k"]), verdict)


def _not_run(name: PartName, bar: float) -> Part:
    return Part(name, math.nan, math.nan, math.nan, bar, 0, "", NOT_RUN)
