"""A trained scorer as a method: the mode of its distribution over selections."""

from __future__ import annotations

import torch

from grip_core.policy.scorer import Scorer
from grip_core.vlm.context import Context, Selection, top_k


class PolicySelector:
    """Keeps the k best-scored tokens: the most probable selection of exactly k."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer.eval()

    def select(self, context: Context, k: int) -> Selection:
        """One row per prompt. The scores depend on k, so nothing is shared between budgets.

        The scorer moves to where the context lies.
        """
        device = context.visual_BND.device
        scorer = self.scorer.to(device)
        k_B = context.at_most(k)
        with torch.inference_mode():
            return top_k(scorer(context, k_B), k_B)
