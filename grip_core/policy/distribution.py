"""The contract of a distribution over selections of k of N tokens.

Shape legend: B prompts, G selections per prompt, N tokens, K the largest budget of the batch. A batch may mix budgets:
selections are padded at the right to K, and `mask_BK` says which picks are real.
"""

from __future__ import annotations

from typing import Protocol, Self

import torch


class SelectionDistribution(Protocol):
    """Built from scores (B, N), -inf where a token pads, and budgets k (B,), each at most the number of real tokens."""

    mask_BK: torch.Tensor

    def sample(self, group_size: int, generator: torch.Generator) -> torch.Tensor:
        """Selections (B, G, K), int64, in the order picked; drawn on the CPU, so that devices agree."""
        ...

    def log_prob(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """Log-probability of each pick given those before it, (B, G, K); 0 where padded. Its sum is the selection's."""
        ...

    def entropy(self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """Entropy of each pick's own distribution along the given selections, (B, G, K); 0 where padded."""
        ...

    def kl(self, other: Self, selection_BGK: torch.Tensor) -> torch.Tensor:
        """KL(self || other) of each pick's own distribution along the given selections, (B, G, K); 0 where padded."""
        ...

    def mode(self) -> torch.Tensor:
        """The most probable selection, (B, K), best first."""
        ...
