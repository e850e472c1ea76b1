"""Encoder attention: the tokens to which the vision encoder itself attends most.

FasterVLM (Zhang et al. 2024, arXiv 2412.01818): the CLS token's attention at the feature layer, mean over heads. An
encoder without a CLS token gives the mean attention that a token receives.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import ScoreBaseline
from grip_core.vlm.context import Context


class EncoderAttention(ScoreBaseline):
    """See the module."""

    name = "encoder_attention"
    label = "Encoder attention"

    def scores(self, context: Context) -> torch.Tensor:
        return context.encoder_attention_BN.float()
