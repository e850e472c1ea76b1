"""The distributions over selections by name."""

from __future__ import annotations

from grip_core.policy.bernoulli import IndependentBernoulli
from grip_core.policy.conditional_bernoulli import ConditionalBernoulli
from grip_core.policy.distribution import SelectionDistribution
from grip_core.policy.plackett_luce import PlackettLuce

DISTRIBUTIONS: dict[str, type[SelectionDistribution]] = {
    distribution.name: distribution for distribution in (PlackettLuce, ConditionalBernoulli, IndependentBernoulli)
}
