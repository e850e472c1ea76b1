"""The claim of less time at equal accuracy."""

from __future__ import annotations

from dataclasses import replace

from grip_core.claims.answers import Missing
from grip_core.claims.contrasts import Contrast
from grip_core.claims.evidence import Evidence, Planned, all_above, paired, priced
from grip_core.claims.results import NOT_RUN, Finding
from grip_core.claims.saving import Curve, Saving
from grip_core.claims.schema import Faster
from grip_core.evaluation.evaluate import FULL
from grip_core.evaluation.words import listed


def faster(claim: Faster, evidence: Evidence) -> Finding:
    """Whether enough of each peer's time is saved. Raises Missing if the method's own curve is, or every peer's."""
    peers, missing = priced(evidence, evidence.claims.peers(claim), "seconds")
    own = _curve(evidence, claim.method)
    made = []
    for other in peers:
        try:
            saving = Saving(own, _curve(evidence, other), claim.margin, own.differences[0].n)
            made.append(Contrast(claim.method, other, "all", saving))
        except Missing as reason:
            missing.append(str(reason))
    finding = all_above(made, list(dict.fromkeys(missing)), claim.bar, evidence.confidence)
    if evidence.setting.name in claim.settings:
        return finding
    models = listed([item.label for item in evidence.claims.settings if item.name in claim.settings])
    reasons = [f"times count on {models} only", *([finding.reason] if finding.reason else [])]
    return replace(finding, verdict=NOT_RUN, reason="; ".join(reasons))


def _curve(evidence: Evidence, method: str) -> Curve:
    """Raises Missing if answers or times are."""
    n_visual = evidence.answers.n_visual
    budgets = tuple(k for k in evidence.answers.budgets(method) if k < n_visual)
    if not budgets and method != FULL:
        raise Missing(f"there are no answers of {method} below {n_visual} tokens")
    return Curve(
        n_visual=n_visual,
        budgets=budgets,
        differences=tuple(paired(evidence.answers, Planned(method, (k,), FULL, (n_visual,))) for k in budgets),
        seconds=evidence.costs.seconds(method) | evidence.costs.seconds(FULL),
    )
