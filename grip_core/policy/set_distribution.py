"""Distributions over sets: independent picks, conditioned on an event that the set must fulfil.

log P(S) = sum of the kept tokens' logits - log normaliser, an exponential family, so entropy and KL have closed forms
in the marginals (Wainwright & Jordan 2008, section 3). A set has no order: every pick's share is the same.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

import torch
from torch.nn import functional as F

from grip_core.policy.distribution import Picks, SelectionDistribution, at_picks, picks_of, spread


class SetDistribution(SelectionDistribution):
    """See SelectionDistribution. Picks stand in ascending order. Everything is computed with in float64."""

    closed_form = True

    @property
    @abstractmethod
    def logits_BN(self) -> torch.Tensor:
        """The scores and a constant of each prompt's, float64; -inf where padded."""

    @abstractmethod
    def log_normaliser(self) -> torch.Tensor:
        """log of the sum over all permitted sets of exp(the sum of their logits), (B,)."""

    @abstractmethod
    def marginals(self) -> torch.Tensor:
        """Each token's probability to be kept, (B, N), differentiable: the normaliser's gradient by the logits."""

    @abstractmethod
    def keep(self, group_size: int, generator: torch.Generator) -> torch.Tensor:
        """Draw which tokens are kept, (B, G, N), on the CPU."""

    def sample(self, group_size: int, generator: torch.Generator) -> Picks:
        picks = picks_of(self.keep(group_size, generator))
        device = self.scores_BN.device
        return Picks(picks.index_BGK.to(device), picks.mask_BGK.to(device))

    def log_prob(self, picks: Picks) -> torch.Tensor:
        total_BG = at_picks(self.logits_BN, picks).sum(-1) - self.log_normaliser()[:, None]
        return self._shares(total_BG, picks)

    def entropy(self, picks: Picks) -> torch.Tensor:
        """Exact: log normaliser - sum of marginals * logits."""
        mean_B = (self.marginals() * self._finite(self.logits_BN)).sum(1)
        return self._shares((self.log_normaliser() - mean_B)[:, None], picks)

    def kl(self, other: Self, picks: Picks) -> torch.Tensor:
        """Exact: sum of marginals * difference of the logits - difference of the log normalisers."""
        difference_BN = self._finite(self.logits_BN) - self._finite(other.logits_BN)
        mean_B = (self.marginals() * difference_BN).sum(1)
        return self._shares((mean_B - self.log_normaliser() + other.log_normaliser())[:, None], picks)

    def _finite(self, values_BN: torch.Tensor) -> torch.Tensor:
        """0 where a token pads: 0 * -inf is not a number."""
        return values_BN.masked_fill(self.scores_BN == float("-inf"), 0.0)

    def _shares(self, total_BG: torch.Tensor, picks: Picks) -> torch.Tensor:
        return spread(total_BG, picks).to(self.scores_BN.dtype)


def softplus(x: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(x)) to full precision, which torch's own, linear above 20, is not."""
    return -F.logsigmoid(-x)
