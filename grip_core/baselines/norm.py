"""Norm: the tokens of largest L2 norm, as the language model reads them."""

from __future__ import annotations

import torch

from grip_core.baselines.base import ScoreBaseline
from grip_core.vlm.context import Context


class Norm(ScoreBaseline):
    """score_n = ||v_n||, after the projector."""

    name = "norm"
    label = "Token norm"

    def scores(self, context: Context) -> torch.Tensor:
        return context.visual_BND.float().norm(dim=-1)
