"""The contract of a distribution over selections of k of N tokens.

Shape legend: B prompts, G selections per prompt, N tokens, K the most picks of a selection in the batch. A batch may
mix budgets; selections are padded at the right to K.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Picks:
    """G selections of each prompt: `index_BGK` int64, 0 where padded; `mask_BGK` bool, True where a pick is real."""

    index_BGK: torch.Tensor
    mask_BGK: torch.Tensor


class SelectionDistribution(ABC):
    """Built from scores (B, N), -inf where a token pads, and budgets k (B,), each at most the number of real tokens.

    Scores are computed with in float32 or better. The picks that methods are given may come from anywhere, but must be
    possible: distinct real tokens, as many as the distribution draws. `log_prob`, `entropy` and `kl` share a
    selection's value out over its picks: their sums over K mean something, the single shares need not.

    Raises ValueError if a budget is below 1 or above its prompt's number of real tokens.
    """

    name: ClassVar[str]
    """Key in params.yaml and in every table."""
    closed_form: ClassVar[bool]
    """Whether `entropy` and `kl` are exact whatever the picks; else they are path estimates: see path_expectation."""

    def __init__(self, scores_BN: torch.Tensor, k_B: torch.Tensor) -> None:
        available_B = (scores_BN > float("-inf")).sum(1)
        k_B = k_B.to(scores_BN.device)
        if bool((k_B < 1).any()) or bool((k_B > available_B).any()):
            raise ValueError(
                f"a budget must lie between 1 and the number of tokens, but got budgets {k_B.tolist()} for "
                f"{available_B.tolist()} tokens"
            )
        self.scores_BN = scores_BN if scores_BN.dtype == torch.float64 else scores_BN.float()
        self.k_B = k_B

    @abstractmethod
    def sample(self, group_size: int, generator: torch.Generator) -> Picks:
        """`group_size` independent selections of each prompt; drawn with a CPU generator, so that devices agree."""

    @abstractmethod
    def log_prob(self, picks: Picks) -> torch.Tensor:
        """Each pick's share of its selection's log-probability, (B, G, K); 0 where padded."""

    @abstractmethod
    def entropy(self, picks: Picks) -> torch.Tensor:
        """Each pick's share of the entropy, nats, (B, G, K); 0 where padded."""

    @abstractmethod
    def kl(self, other: Self, picks: Picks) -> torch.Tensor:
        """Each pick's share of KL(self || other), nats, (B, G, K); 0 where padded. Both have the same real tokens."""

    def mode(self) -> torch.Tensor:
        """The k tokens of the highest scores, best first, (B, K), 0 where padded; of equal scores the first token."""
        order_BN = self.scores_BN.argsort(dim=1, descending=True, stable=True)
        mask_BK = first_k(self.k_B)
        return order_BN[:, : mask_BK.shape[1]].masked_fill(~mask_BK, 0)


def first_k(k_B: torch.Tensor) -> torch.Tensor:
    """Mask (B, K) of the first k places."""
    return torch.arange(int(k_B.max()), device=k_B.device) < k_B[:, None]


def picks_of(kept_BGN: torch.Tensor) -> Picks:
    """The tokens kept, in ascending order."""
    count_BG = kept_BGN.sum(-1)
    most = int(count_BG.max())
    slot_BGN = (kept_BGN.cumsum(-1) - 1).masked_fill(~kept_BGN, most)
    token_BGN = torch.arange(kept_BGN.shape[-1], device=kept_BGN.device).expand_as(kept_BGN)
    index_BGK = token_BGN.new_zeros(*count_BG.shape, most + 1).scatter(2, slot_BGN, token_BGN)[..., :most]
    mask_BGK = torch.arange(most, device=kept_BGN.device) < count_BG[..., None]
    return Picks(index_BGK, mask_BGK)


def at_picks(values_BN: torch.Tensor, picks: Picks) -> torch.Tensor:
    """The picked tokens' values, (B, G, K); 0 where padded."""
    values_BGN = values_BN[:, None].expand(-1, picks.index_BGK.shape[1], -1)
    return values_BGN.gather(2, picks.index_BGK).masked_fill(~picks.mask_BGK, 0.0)


def spread(total_BG: torch.Tensor, picks: Picks) -> torch.Tensor:
    """A selection's total in equal shares over its picks, (B, G, K); 0 where padded."""
    share_BG = total_BG / picks.mask_BGK.sum(-1)
    return share_BG[..., None].expand_as(picks.mask_BGK).masked_fill(~picks.mask_BGK, 0.0)


def path_expectation(
    values_BGK: torch.Tensor, log_prob_BGK: torch.Tensor, old_log_prob_BGK: torch.Tensor
) -> torch.Tensor:
    """Path estimates whose gradient is right, (B, G, K): w_j f_j, where w_j = p / p_old of the picks before j.

    `values_BGK` are a path estimate f_j of each pick, along paths drawn with `old_log_prob_BGK`; f_j must depend on the
    picks before j only, as entropy and KL of the next pick do, so only their ratio enters. Summed over K, the
    expectation over paths is that of sum_j f_j under the present distribution, and so is its gradient. On-policy the
    value is f_j and the gradient grad f_j + f_j * grad log p(picks before j): the second part, the score-function
    term, is what autograd through f_j alone leaves out. The old log-probabilities are taken as constants.
    """
    log_ratio_BGK = log_prob_BGK - old_log_prob_BGK.detach()
    before_BGK = F.pad(log_ratio_BGK[..., :-1].cumsum(-1), (1, 0))
    return before_BGK.exp() * values_BGK
