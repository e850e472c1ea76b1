"""Independent Bernoulli: each token is kept or not on its own, but never none.

A token's odds to be kept are k * softmax(scores), so that the budget k moves the size, of which it is no more than a
soft bound, and shifting all scores changes nothing: k tokens are expected where k << N and the scores are flat, fewer
where they are peaked. A set's probability is the product over tokens, over the probability that any is kept.
"""

from __future__ import annotations

import torch

from grip_core.policy.set_distribution import SetDistribution, softplus


class IndependentBernoulli(SetDistribution):
    """See SelectionDistribution. Selections differ in size; `mode` is the k best tokens, as that of the others, though
    the most probable set is that of all tokens whose odds are above 1."""

    name = "bernoulli"

    @property
    def logits_BN(self) -> torch.Tensor:
        return self.scores_BN.double().log_softmax(1) + self.k_B[:, None].double().log()

    def log_normaliser(self) -> torch.Tensor:
        """log(prod of (1 + odds) - 1): every set but the empty one."""
        return softplus(self.logits_BN).sum(1) + self._any().log()  # the sum itself would overflow for many tokens

    def marginals(self) -> torch.Tensor:
        return self.logits_BN.sigmoid() / self._any()[:, None]

    def keep(self, group_size: int, generator: torch.Generator) -> torch.Tensor:
        """The first kept token by its distribution, which is truncated at the last token, then each later one."""
        logits_BN = self.logits_BN.detach().cpu()
        batch, n = logits_BN.shape
        uniform = torch.rand(batch, group_size, n + 1, generator=generator, dtype=torch.float64)
        any_so_far_BN = -(-softplus(logits_BN).cumsum(1)).expm1()
        level_BG = uniform[..., n] * any_so_far_BN[:, -1:]  # below the last, for the draws are below 1
        first_BG1 = torch.searchsorted(any_so_far_BN, level_BG, right=True)[..., None]
        later_BGN = torch.arange(n) > first_BG1
        return (later_BGN & (uniform[..., :n] < logits_BN.sigmoid()[:, None])).scatter(2, first_BG1, True)

    def _any(self) -> torch.Tensor:
        """The probability that independent picks keep any token, (B,): at least a half, for the odds sum to k."""
        return -(-softplus(self.logits_BN).sum(1)).expm1()
