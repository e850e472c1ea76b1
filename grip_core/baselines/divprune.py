"""DivPrune (Alvar et al. 2025, arXiv 2503.02175): the subset whose closest pair is farthest apart, greedily."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import ScoreBaseline
from grip_core.vlm.context import Context

TAKEN = float("-inf")
PADDING = -1.0  # below every distance, above what is taken: padding comes last in the order


class DivPrune(ScoreBaseline):
    """Max-min diversity with the distance 1 - cos.

    The first token is the one whose nearest neighbour is farthest; each next one is farthest from those taken. The k
    best are a prefix of this order, so the score is minus the place in it.
    """

    name = "divprune"
    label = "DivPrune"

    def scores(self, context: Context) -> torch.Tensor:
        unit_BND = F.normalize(context.visual_BND.float(), dim=-1)
        distance_BNN = (1.0 - unit_BND @ unit_BND.transpose(1, 2)).clamp(min=0.0)
        batch, n, _ = distance_BNN.shape
        row_B = torch.arange(batch, device=distance_BNN.device)
        not_a_neighbour = ~context.visual_mask_BN[:, None] | torch.eye(n, dtype=torch.bool, device=row_B.device)
        to_nearest_BN = distance_BNN.masked_fill(not_a_neighbour, float("inf")).amin(2)
        gain_BN = to_nearest_BN.masked_fill(~context.visual_mask_BN, PADDING)
        place_BN = torch.zeros_like(gain_BN)
        for place in range(n):
            pick_B = gain_BN.argmax(1)
            place_BN[row_B, pick_B] = place
            to_pick_BN = distance_BNN[row_B, pick_B]
            if place == 0:  # from here on, what counts is the distance to the taken tokens alone
                gain_BN = gain_BN.masked_fill(context.visual_mask_BN, float("inf"))
            gain_BN = gain_BN.minimum(to_pick_BN)
            gain_BN[row_B, pick_B] = TAKEN
        return -place_BN
