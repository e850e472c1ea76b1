"""The claim of a better Pareto front of accuracy over FLOPs.

Shape legend: S seeds, K budgets, E examples of the method; R seeds and J points (method and budget) of its peers.
"""

from __future__ import annotations

import numpy as np

from grip_core.claims.answers import Answers, Missing
from grip_core.claims.contrasts import Contrast, compare_all, hardest
from grip_core.claims.evidence import Evidence, Planned, contrasts, priced
from grip_core.claims.results import NOT_RUN, Finding, Judged
from grip_core.claims.schema import Dominates
from grip_core.statistics.frontier import hypervolume_difference
from grip_core.statistics.intervals import Comparison

FRONT = "front of all peers"
Point = tuple[str, int]


def dominates(claim: Dominates, evidence: Evidence) -> Finding:
    """Supported if the hypervolume is larger and no budget is lost; contradicted if a budget is lost, after Holm over
    all pairs of a budget and a peer.

    A larger hypervolume of the peers alone contradicts nothing: their front takes the best of many noisy points at
    every cost, which lifts it above equals. That makes "supported" the harder to get. Raises Missing if the method has
    no answers, or costs are missing.
    """
    answers = evidence.answers
    budgets = answers.small_budgets(claim.method, claim.share)
    peers, unpriced = priced(evidence, evidence.claims.peers(claim), "flops")
    points = [(other, k) for other in peers for k in answers.budgets(other)]
    if not points:
        raise Missing("; ".join(unpriced))
    plan = [item for k in budgets for other in peers if (item := _affordable(evidence, claim.method, k, other))]
    pairs, missing = contrasts(answers, plan)
    volume = Contrast(claim.method, FRONT, "all", _volume(evidence, [(claim.method, k) for k in budgets], points))
    [front] = compare_all([volume], claim.bar, evidence.confidence)
    at_budgets = compare_all(pairs, claim.bar, evidence.confidence)
    lost = [item for item in at_budgets if item.verdict == "contradicted"]
    deciding = hardest(lost) if lost else front
    judged: Judged = "contradicted" if lost else "supported" if front.verdict == "supported" else "undecided"
    return Finding(
        verdict=NOT_RUN if unpriced + missing else judged,
        effect=deciding.effect,
        low=deciding.low,
        high=deciding.high,
        n=deciding.n,
        p_value=deciding.p_holm,
        method=deciding.method,
        other=deciding.other,
        k=deciding.k,
        reason="; ".join(unpriced + missing),
        comparisons=(front, *at_budgets),
    )


def _affordable(evidence: Evidence, method: str, k: int, other: str) -> Planned | None:
    """The method at k against a peer at its dearest budget that costs no more; None if all cost more.

    Its dearest, not its best: to choose by accuracy would favour the peer by chance.
    """
    limit = evidence.costs.flops(method, k) * (1 + 1e-9)
    cost = {budget: evidence.costs.flops(other, budget) for budget in evidence.answers.budgets(other)}
    within = [budget for budget in cost if cost[budget] <= limit]
    return Planned(method, (k,), other, (max(within, key=lambda budget: (cost[budget], budget)),)) if within else None


def _volume(evidence: Evidence, own: list[Point], others: list[Point]) -> Comparison:
    """Difference of the hypervolumes over the costs that both span. Raises Missing if they share no range."""
    own_cost_K, other_cost_J = (np.array([evidence.costs.flops(*point) for point in part]) for part in (own, others))
    low = max(own_cost_K.min(), other_cost_J.min())
    high = min(own_cost_K.max(), other_cost_J.max())
    if not low < high:
        raise Missing("the costs of the method and of its peers share no range")
    scores = evidence.answers.scores(own[0][0], [own[0][1]])
    return hypervolume_difference(
        cost_K=own_cost_K,
        score_SKE=_stack(evidence.answers, own),
        other_cost_J=other_cost_J,
        other_RJE=_stack(evidence.answers, others),
        image_E=scores.image_E,
        stratum_E=scores.benchmark_E,
        cost_range=(float(low), float(high)),
        score_floor=0.0,
    )


def _stack(answers: Answers, points: list[Point]) -> np.ndarray:
    """Scores of points, (seeds, points, E): as many seeds as the least of those that have several; a deterministic
    method answers every seed alike."""
    scores = [answers.scores(method, [k]).score_SE for method, k in points]
    if len({score_SE.shape[1] for score_SE in scores}) > 1:
        raise Missing("the methods did not answer the same questions")
    seeds = min((len(score_SE) for score_SE in scores if len(score_SE) > 1), default=1)
    return np.stack([score_SE[np.arange(seeds) % len(score_SE)] for score_SE in scores], axis=1)
