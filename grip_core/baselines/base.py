"""The contract of a baseline: from a context and a budget to a selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.frozen import FrozenVLM


class Baseline(ABC):
    """A method that keeps k visual tokens of each prompt. A new one is a module of this package and nothing else."""

    name: ClassVar[str]
    """Key in params.yaml and in every table."""
    label: ClassVar[str]
    """Name in figures."""
    trained: ClassVar[bool] = False
    query_aware: ClassVar[bool] = False
    """Whether the question changes the selection."""
    inside: ClassVar[bool] = False
    """Prunes inside the language model, whose first layers read every token."""

    def __init__(self, vlm: FrozenVLM, seed: int) -> None:
        self.vlm = vlm
        self.seed = seed

    @abstractmethod
    def select(self, context: Context, k: int) -> Selection:
        """One row per prompt: k of its tokens, or all of them where it has fewer.

        A prompt's selection does not depend on what else is in the batch, nor on padding.
        """


class ScoreBaseline(Baseline):
    """A method that ranks the tokens and keeps the k best. The scores are computed once for all budgets."""

    @abstractmethod
    def scores(self, context: Context) -> torch.Tensor:
        """Scores (B, N), larger is better; what padding scores does not matter."""

    def select(self, context: Context, k: int) -> Selection:
        key = f"{self.name}/{self.seed}"
        if key not in context.memo:
            context.memo[key] = self.scores(context).masked_fill(~context.visual_mask_BN, float("-inf"))
        return top_k(context.memo[key], k)
