"""FastV's score (Chen et al. 2024, arXiv 2403.06764), used before the language model.

FastV itself drops tokens inside the language model, after layer K = 2, by the attention that the prompt's last token
pays them in that layer, mean over heads. Here the same score chooses the tokens that the language model reads at all:
every method is compared at the same place. The pass that gives the score sees every token and is no saving.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import ScoreBaseline
from grip_core.vlm.context import Context

LAYER = 1  # the second layer: K - 1, counting from zero


class FastV(ScoreBaseline):
    """See the module."""

    name = "fastv"
    label = "FastV (score only)"
    query_aware = True

    def scores(self, context: Context) -> torch.Tensor:
        return self.vlm.answer_attention(context)[:, LAYER]
