"""HoloV (Zou et al. 2025, arXiv 2510.02912): the budget is spread over crops of the image.

The letter C counts the crops.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import Baseline
from grip_core.baselines.grid import cut
from grip_core.baselines.masks import ranks, selection
from grip_core.vlm.context import Context, Selection

CROPS = 16  # as published


class HoloV(Baseline):
    """Each crop keeps its tokens of most encoder attention, as many as its share of the crops' mean attention gives.

    The original adds the variance of a token's similarities inside its crop to the score, scaled so that its mean over
    the crop is that of the attention: every crop's mean then has the same factor, which the shares cancel. Its crops
    are runs of tokens, row by row; here they are 16 near-square cells, or one a token where there are fewer tokens.
    """

    name = "holov"
    label = "HoloV"

    def select(self, context: Context, k: int) -> Selection:
        real_BN = context.visual_mask_BN
        attention_BN = context.encoder_attention_BN.double().masked_fill(~real_BN, 0.0)
        crop_BN = cut(context, CROPS).cell_BN
        same_BNN = crop_BN[:, None] == crop_BN[..., None]
        rank_BN = ranks(attention_BN.masked_fill(~real_BN, float("-inf")))
        rank_in_crop_BN = (same_BNN & (rank_BN[:, None] < rank_BN[..., None])).sum(2)
        empty_BC = attention_BN.new_zeros(len(crop_BN), CROPS + 1)
        size_BC = empty_BC.scatter_add(1, crop_BN, real_BN.double()).long()
        mean_BC = empty_BC.scatter_add(1, crop_BN, attention_BN) / size_BC.clamp(min=1)
        return selection((rank_in_crop_BN < quotas(mean_BC, size_BC, k).gather(1, crop_BN)) & real_BN)


def quotas(score_BC: torch.Tensor, size_BC: torch.Tensor, k: int) -> torch.Tensor:
    """How many of k tokens each crop keeps: its share of the scores, rounded down, and at most its size.

    What is left over is dealt out one each to the crops that have room, the best-scored first, as often as needed; the
    sum is k, or the number of tokens where that is less. Scores are not negative.
    """
    share_BC = score_BC * k / score_BC.sum(1, keepdim=True).clamp(min=torch.finfo(score_BC.dtype).tiny)
    quota_BC = share_BC.floor().long().minimum(size_BC)
    total_B = size_BC.sum(1).clamp(max=k)
    while (left_B := total_B - quota_BC.sum(1)).any():
        room_BC = quota_BC < size_BC
        rank_BC = ranks(score_BC.masked_fill(~room_BC, float("-inf")))
        quota_BC = quota_BC + (room_BC & (rank_BC < left_B[:, None]))
    return quota_BC
