"""Plackett-Luce: tokens are picked in turn, each with probability proportional to exp(score) among those left.

This is the Markov decision process of the method: the state is what is already kept, the action the next token. A
sample is the first k of argsort(score + Gumbel noise) (Yellott 1977; Kool et al. 2019).
"""

from __future__ import annotations

from typing import Self

import torch

from grip_core.policy.distribution import SelectionDistribution


class PlackettLuce(SelectionDistribution):
    """See SelectionDistribution. Scores are computed with in float32 or better.

    Raises ValueError if a budget is below 1 or above its prompt's number of real tokens.
    """

    def __init__(self, scores_BN: torch.Tensor, k_B: torch.Tensor) -> None:
        self.scores_BN = scores_BN if scores_BN.dtype == torch.float64 else scores_BN.float()
        available_B = (scores_BN > float("-inf")).sum(1)
        if bool((k_B < 1).any()) or bool((k_B > available_B).any()):
            raise ValueError(
                f"a budget must lie between 1 and the number of tokens, but got budgets {k_B.tolist()} for "
                f"{available_B.tolist()} tokens"
            )
        self.k_B = k_B
        steps = torch.arange(int(k_B.max()), device=scores_BN.device)
        self.mask_BK = steps < k_B[:, None]

    def sample(self, group_size: int, generator: torch.Generator) -> torch.Tensor:
        batch, n = self.scores_BN.shape
        uniform = torch.rand(batch, group_size, n, generator=generator, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny)))
        keys = self.scores_BN.detach()[:, None].double() + gumbel.to(self.scores_BN.device)
        picked = keys.topk(self.mask_BK.shape[1], dim=-1).indices
        return picked.masked_fill(~self.mask_BK[:, None], 0)

    def log_prob(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        chosen_BGK = self._chosen(self.scores_BN, selection_BGK)
        log_z_BGK = self._log_sum(self.scores_BN, selection_BGK)
        return self._masked(chosen_BGK - log_z_BGK)

    def entropy(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """A path estimate: its expectation over sampled orders is the entropy of the ordered selection.

        As a loss it needs the score-function term as well; autograd through it alone leaves out how the path moves.
        """
        log_z_BGK = self._log_sum(self.scores_BN, selection_BGK)
        return self._masked(log_z_BGK - self._mean(self.scores_BN, selection_BGK, log_z_BGK))

    def kl(self, other: Self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """A path estimate, as `entropy`: its expectation over orders sampled from `self` is KL(self || other)."""
        log_z_BGK = self._log_sum(self.scores_BN, selection_BGK)
        other_log_z_BGK = self._log_sum(other.scores_BN, selection_BGK)
        finite_BN = self.scores_BN > float("-inf")
        difference_BN = torch.where(finite_BN, self.scores_BN, 0.0) - torch.where(finite_BN, other.scores_BN, 0.0)
        mean_BGK = self._mean(difference_BN, selection_BGK, log_z_BGK)
        return self._masked(mean_BGK - log_z_BGK + other_log_z_BGK)

    def mode(self) -> torch.Tensor:
        order = self.scores_BN.argsort(dim=1, descending=True, stable=True)
        return order[:, : self.mask_BK.shape[1]].masked_fill(~self.mask_BK, 0)

    # The sums over "tokens not yet picked" at every pick j are those over the never-picked tokens plus a reversed
    # cumulative sum over the picks from j on: O(N + K) per selection instead of O(N K).

    def _log_sum(self, log_weights_BN: torch.Tensor, selection_BGK: torch.Tensor) -> torch.Tensor:
        """log of the sum of exp(log_weights) over the tokens not yet picked before each pick, (B, G, K)."""
        floor = torch.finfo(log_weights_BN.dtype).min
        group = selection_BGK.shape[1]
        weights_BGN = log_weights_BN.clamp_min(floor)[:, None].expand(-1, group, -1)
        never_BG1 = weights_BGN.masked_fill(self._picked(selection_BGK), floor).logsumexp(-1, keepdim=True)
        picks_BGK = self._chosen(log_weights_BN, selection_BGK).masked_fill(~self._mask(selection_BGK), floor)
        later_BGK = picks_BGK.flip(-1).logcumsumexp(-1).flip(-1)
        return torch.logaddexp(never_BG1, later_BGK)

    def _mean(self, values_BN: torch.Tensor, selection_BGK: torch.Tensor, log_z_BGK: torch.Tensor) -> torch.Tensor:
        """Mean of `values` over the next pick's distribution, (B, G, K).

        Values are shifted to at least 1, so that their logarithm exists and the same stable sum in logarithms serves.
        """
        finite_BN = self.scores_BN > float("-inf")
        low_B1 = values_BN.detach().masked_fill(~finite_BN, float("inf")).amin(1, keepdim=True) - 1.0
        shifted_BN = torch.where(finite_BN, values_BN - low_B1, 1.0)
        log_sum_BGK = self._log_sum(self.scores_BN + shifted_BN.log(), selection_BGK)
        return (log_sum_BGK - log_z_BGK).exp() + low_B1[..., None]

    def _chosen(self, values_BN: torch.Tensor, selection_BGK: torch.Tensor) -> torch.Tensor:
        return values_BN[:, None].expand(-1, selection_BGK.shape[1], -1).gather(2, selection_BGK)

    def _mask(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        return self.mask_BK[:, None].expand_as(selection_BGK)

    def _masked(self, values_BGK: torch.Tensor) -> torch.Tensor:
        return values_BGK.masked_fill(~self.mask_BK[:, None], 0.0)

    def _picked(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """True where a token is picked at all, (B, G, N)."""
        batch, group, _ = selection_BGK.shape
        n = self.scores_BN.shape[1]
        slot_BGK = selection_BGK.masked_fill(~self._mask(selection_BGK), n)
        picked = torch.zeros(batch, group, n + 1, dtype=torch.bool, device=selection_BGK.device)
        return picked.scatter(2, slot_BGK, True)[..., :n]
