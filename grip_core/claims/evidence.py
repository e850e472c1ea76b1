"""What claims of one setting are judged by, and comparisons made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grip_core.claims.answers import Answers, Missing, numbers
from grip_core.claims.contrasts import Contrast, compare_all, hardest
from grip_core.claims.costs import Costs
from grip_core.claims.results import NOT_RUN, Finding
from grip_core.claims.schema import Claims, Setting
from grip_core.evaluation.words import listed
from grip_core.statistics.intervals import Comparison, compare


@dataclass(frozen=True)
class Evidence:
    """Claims, where they are judged, and the data there."""

    claims: Claims
    setting: Setting
    answers: Answers
    costs: Costs
    confidence: float


@dataclass(frozen=True)
class Planned:
    """A method at some budgets against another at some, each averaged over its own."""

    method: str
    budgets: tuple[int, ...]
    other: str
    other_budgets: tuple[int, ...]

    @property
    def k(self) -> str:
        """The budgets as text."""
        own, other = numbers(self.budgets), numbers(self.other_budgets)
        return own if own == other else f"{own} against {other}"


def paired(answers: Answers, planned: Planned) -> Comparison:
    """Difference of mean accuracy on the same questions. Raises Missing if an answer is."""
    own = answers.scores(planned.method, planned.budgets)
    other = answers.scores(planned.other, planned.other_budgets)
    if not np.array_equal(own.example_E, other.example_E):
        raise Missing(f"{planned.method} and {planned.other} did not answer the same questions")
    return compare(own.score_SE, other.score_SE, own.image_E, own.benchmark_E)


def contrasts(answers: Answers, plan: Sequence[Planned]) -> tuple[list[Contrast], list[str]]:
    """Those of the planned comparisons that can be made, and what the others are missing."""
    absent = answers.absent(name for item in plan for name in (item.method, item.other))
    made, missing = [], [f"there are no answers of {listed(absent)}"] if absent else []
    for item in plan:
        if item.method in absent or item.other in absent:
            continue
        try:
            made.append(Contrast(item.method, item.other, item.k, paired(answers, item)))
        except Missing as reason:
            missing.append(str(reason))
    return made, list(dict.fromkeys(missing))


def priced(evidence: Evidence, methods: Sequence[str], column: str) -> tuple[list[str], list[str]]:
    """Those of `methods` that have answers and "flops" or "seconds", and what the others are missing. Raises Missing if
    there are no costs at all."""
    evidence.costs.check()
    absent = {"answers": evidence.answers.absent(methods), column: evidence.costs.absent(methods, column)}
    missing = [f"there are no {what} of {listed(names)}" for what, names in absent.items() if names]
    return [name for name in methods if not any(name in names for names in absent.values())], missing


def all_above(made: Sequence[Contrast], missing: Sequence[str], bar: float, confidence: float) -> Finding:
    """On the claim that every contrast is above `bar`. Raises Missing if none could be made."""
    if not made:
        raise Missing("; ".join(missing))
    compared = compare_all(made, bar, confidence)
    deciding = hardest(compared)
    supported = deciding.verdict == "supported"
    return Finding(
        verdict=NOT_RUN if missing else deciding.verdict,
        effect=deciding.effect,
        low=deciding.low,
        high=deciding.high,
        n=deciding.n,
        p_value=max(item.p_value for item in compared) if supported else deciding.p_holm,
        method=deciding.method,
        other=deciding.other,
        k=deciding.k,
        reason="; ".join(missing),
        comparisons=tuple(compared),
    )
