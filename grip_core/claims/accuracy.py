"""Claims of accuracy at equal budgets."""

from __future__ import annotations

from grip_core.claims.evidence import Evidence, Planned, all_above, contrasts
from grip_core.claims.results import Finding
from grip_core.claims.schema import BeatsEvery, NotWorse


def beats_every(claim: BeatsEvery, evidence: Evidence) -> Finding:
    """Whether a method beats each of its peers, at the same budgets. Raises Missing if nothing can be compared."""
    budgets = tuple(evidence.answers.small_budgets(claim.method, claim.share))
    plan = [Planned(claim.method, budgets, other, budgets) for other in evidence.claims.peers(claim)]
    return all_above(*contrasts(evidence.answers, plan), claim.bar, evidence.confidence)


def not_worse(claim: NotWorse, evidence: Evidence) -> Finding:
    """Whether the first of every pair is non-inferior to the other. Raises Missing if nothing can be compared."""
    plan = [Planned(pair.method, (pair.k,), pair.other, (pair.k,)) for pair in claim.pairs]
    return all_above(*contrasts(evidence.answers, plan), claim.bar, evidence.confidence)
