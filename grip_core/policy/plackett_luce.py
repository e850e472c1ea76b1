"""Plackett-Luce: tokens are picked in turn, each with probability proportional to exp(score) among those left.

This is the Markov decision process of the method: the state is what is already kept, the action the next token. A
sample is the first k of argsort(score + Gumbel noise) (Yellott 1977; Kool et al. 2019).
"""

from __future__ import annotations

from typing import Self

import torch

from grip_core.policy.distribution import Picks, SelectionDistribution, at_picks, first_k


class PlackettLuce(SelectionDistribution):
    """See SelectionDistribution. Picks stand in the order picked; a pick's share is its own, given those before it."""

    name = "plackett_luce"
    closed_form = False

    def sample(self, group_size: int, generator: torch.Generator) -> Picks:
        batch, n = self.scores_BN.shape
        uniform = torch.rand(batch, group_size, n, generator=generator, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny)))
        keys = self.scores_BN.detach()[:, None].double() + gumbel.to(self.scores_BN.device)
        mask_BK = first_k(self.k_B)
        index_BGK = keys.topk(mask_BK.shape[1], dim=-1).indices
        mask_BGK = mask_BK[:, None].expand_as(index_BGK)
        return Picks(index_BGK.masked_fill(~mask_BGK, 0), mask_BGK)

    def log_prob(self, picks: Picks) -> torch.Tensor:
        """Log-probability of each pick given those before it."""
        log_z_BGK = self._log_sum(self.scores_BN, picks)
        return _masked(at_picks(self.scores_BN, picks) - log_z_BGK, picks)

    def entropy(self, picks: Picks) -> torch.Tensor:
        """Entropy of each pick given those before it. A path estimate: its expectation over sampled orders is the
        entropy of the ordered selection."""
        log_z_BGK = self._log_sum(self.scores_BN, picks)
        return _masked(log_z_BGK - self._mean(self.scores_BN, picks, log_z_BGK), picks)

    def kl(self, other: Self, picks: Picks) -> torch.Tensor:
        """A path estimate, as `entropy`: its expectation over orders sampled from `self` is KL(self || other)."""
        log_z_BGK = self._log_sum(self.scores_BN, picks)
        other_log_z_BGK = self._log_sum(other.scores_BN, picks)
        finite_BN = self.scores_BN > float("-inf")
        difference_BN = torch.where(finite_BN, self.scores_BN, 0.0) - torch.where(finite_BN, other.scores_BN, 0.0)
        mean_BGK = self._mean(difference_BN, picks, log_z_BGK)
        return _masked(mean_BGK - log_z_BGK + other_log_z_BGK, picks)

    # The sums over "tokens not yet picked" at every pick j are those over the never-picked tokens plus a reversed
    # cumulative sum over the picks from j on: O(N + K) per selection instead of O(N K).

    def _log_sum(self, log_weights_BN: torch.Tensor, picks: Picks) -> torch.Tensor:
        """log of the sum of exp(log_weights) over the tokens not yet picked before each pick, (B, G, K)."""
        floor = torch.finfo(log_weights_BN.dtype).min
        picked_BGN = _picked(picks, log_weights_BN.shape[1])
        weights_BGN = log_weights_BN.clamp_min(floor)[:, None].expand_as(picked_BGN)
        never_BG1 = weights_BGN.masked_fill(picked_BGN, floor).logsumexp(-1, keepdim=True)
        picks_BGK = at_picks(log_weights_BN, picks).masked_fill(~picks.mask_BGK, floor)
        later_BGK = picks_BGK.flip(-1).logcumsumexp(-1).flip(-1)
        return torch.logaddexp(never_BG1, later_BGK)

    def _mean(self, values_BN: torch.Tensor, picks: Picks, log_z_BGK: torch.Tensor) -> torch.Tensor:
        """Mean of `values` over the next pick's distribution, (B, G, K).

        Values are shifted to at least 1, so that their logarithm exists and the same stable sum in logarithms serves.
        """
        finite_BN = self.scores_BN > float("-inf")
        low_B1 = values_BN.detach().masked_fill(~finite_BN, float("inf")).amin(1, keepdim=True) - 1.0
        shifted_BN = torch.where(finite_BN, values_BN - low_B1, 1.0)
        log_sum_BGK = self._log_sum(self.scores_BN + shifted_BN.log(), picks)
        return (log_sum_BGK - log_z_BGK).exp() + low_B1[..., None]


def _masked(values_BGK: torch.Tensor, picks: Picks) -> torch.Tensor:
    return values_BGK.masked_fill(~picks.mask_BGK, 0.0)


def _picked(picks: Picks, n: int) -> torch.Tensor:
    """True where a token is picked at all, (B, G, N)."""
    slot_BGK = picks.index_BGK.masked_fill(~picks.mask_BGK, n)
    picked = torch.zeros(*slot_BGK.shape[:2], n + 1, dtype=torch.bool, device=slot_BGK.device)
    return picked.scatter(2, slot_BGK, True)[..., :n]
