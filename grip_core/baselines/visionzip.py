"""VisionZip (Yang et al. 2024, arXiv 2412.04467): dominant tokens as they are, the rest merged into contextual ones."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import Baseline
from grip_core.baselines.masks import best, selection
from grip_core.vlm.context import Context, Selection

CONTEXTUAL, OF = 10, 64  # as published: 54 dominant and 10 contextual tokens of 64


class VisionZip(Baseline):
    """The dominant tokens are those of most encoder attention.

    Among the rest, in the order of the image, every s-th is a target, s being the whole part of their number over that
    of the targets. Each other token joins the target of nearest key (cosine; mean over heads), and a target becomes
    itself plus the mean of those that joined it. 10 of 64 tokens are contextual, to the nearest integer (halves up):
    none of up to 3, one of 4 to 9.

    Two differences to the original. It merges before the projector; here the projected tokens are merged, which are
    what the language model reads. And it passes the CLS token on, for which there is no place here.
    """

    name = "visionzip"
    label = "VisionZip"

    def select(self, context: Context, k: int) -> Selection:
        visual_BND, real_BN = context.visual_BND.float(), context.visual_mask_BN
        contextual = (2 * CONTEXTUAL * k + OF) // (2 * OF)
        dominant_BN = best(context.encoder_attention_BN, real_BN, k - contextual)
        target_BN = _evenly(real_BN & ~dominant_BN, contextual)
        kept_BN = dominant_BN | target_BN
        joined_BNN = _nearest(context.encoder_key_BNE.float(), target_BN) & (real_BN & ~kept_BN)[:, None]
        mean_BND = joined_BNN.float() @ visual_BND / joined_BNN.sum(2, keepdim=True).clamp(min=1)
        return selection(kept_BN, visual_BND + mean_BND)


def _evenly(rest_BN: torch.Tensor, count: int) -> torch.Tensor:
    """Every s-th token of the mask, from the first, until there are `count`, or all where it has fewer."""
    place_BN = rest_BN.cumsum(1) - 1
    stride_B1 = (rest_BN.sum(1, keepdim=True) // max(count, 1)).clamp(min=1)
    return rest_BN & (place_BN % stride_B1 == 0) & (place_BN // stride_B1 < count)


def _nearest(key_BNE: torch.Tensor, target_BN: torch.Tensor) -> torch.Tensor:
    """Whether token j's nearest target is i, (B, N of i, N of j); ties by the lower index."""
    unit_BNE = F.normalize(key_BNE, dim=-1)
    cosine_BNN = (unit_BNE @ unit_BNE.transpose(1, 2)).masked_fill(~target_BN[..., None], float("-inf"))
    index_N = torch.arange(target_BN.shape[1], device=target_BN.device)
    return (cosine_BNN.argmax(1)[:, None] == index_N[:, None]) & target_BN[..., None]
