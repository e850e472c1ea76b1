"""From rows of answers and costs to a verdict on every claim of a setting."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from grip_core.claims.accuracy import beats_every, not_worse
from grip_core.claims.answers import Answers, Missing
from grip_core.claims.costs import Costs
from grip_core.claims.evidence import Evidence
from grip_core.claims.front import dominates
from grip_core.claims.results import NOT_RUN, Finding, Result
from grip_core.claims.schema import AnyClaim, BeatsEvery, Claims, Dominates, Faster, NotWorse, Setting
from grip_core.claims.speed import faster


def judge(
    claims: Claims,
    rows: pd.DataFrame,
    costs: pd.DataFrame | None,
    setting: Setting,
    confidence: float,
    stale: Sequence[str],
) -> list[Result]:
    """A result a claim, in the order of `claims.all`. What a claim lacks makes it "not run", with the reason.

    `rows` are answers (`answers.COLUMNS`) of any models and benchmarks, the pipeline's and the arms' together; those of
    the setting are used. `costs` (`costs.COLUMNS`) are of the setting's model. `stale` says what has changed since the
    arms' answers were exported; results that rest on no arm do not carry it. Raises ValueError if columns are absent.
    """
    evidence = Evidence(claims, setting, Answers(rows, setting), Costs(costs, claims.arms), confidence)
    return [_result(claim, evidence, stale) for claim in claims.all]


def _result(claim: AnyClaim, evidence: Evidence, stale: Sequence[str]) -> Result:
    try:
        evidence.answers.check()
        finding = _find(claim, evidence)
    except Missing as reason:
        finding = Finding(NOT_RUN, reason=str(reason))
    rests_on_arms = not set(evidence.claims.arms).isdisjoint(evidence.claims.methods(claim))
    seeds = min(evidence.answers.seeds(method) for method in evidence.claims.subjects(claim))
    return Result(claim, evidence.setting, finding, tuple(stale) if rests_on_arms else (), seeds)


def _find(claim: AnyClaim, evidence: Evidence) -> Finding:
    match claim:
        case BeatsEvery():
            return beats_every(claim, evidence)
        case Dominates():
            return dominates(claim, evidence)
        case Faster():
            return faster(claim, evidence)
        case NotWorse():
            return not_worse(claim, evidence)
