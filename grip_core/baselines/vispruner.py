"""VisPruner (Zhang et al. 2025, arXiv 2412.01818): half of the budget for attention, half for what differs.

The letters I, M are the important and the remaining tokens of a prompt, in descending order of attention.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import Baseline
from grip_core.baselines.masks import at
from grip_core.vlm.context import Context, Selection

AT_ONCE = 8  # tokens dropped before the remaining ones are split anew, as published


class VisPruner(Baseline):
    """Half of the tokens, rounded down but at least one, are those of most encoder attention.

    The remaining ones, in descending order of attention, are split into those at even and at odd places, and the up to
    8 even ones whose nearest odd one is nearest (cosine) are dropped. The even ones that are left then come first, the
    most similar ahead, and the split is repeated until the budget is met. The original compares the encoder's outputs;
    here its keys at the same layer are compared, mean over heads, as the other methods do.
    """

    name = "vispruner"
    label = "VisPruner"

    def select(self, context: Context, k: int) -> Selection:
        real_BN = context.visual_mask_BN
        important = max(1, k // 2)
        order_BN = context.encoder_attention_BN.masked_fill(~real_BN, float("-inf")).argsort(
            dim=1, descending=True, stable=True
        )
        order_BI, rest_BM = order_BN[:, :important], order_BN[:, important:]
        size_B = real_BN.sum(1)
        count_B = (size_B - important).clamp(min=0)
        unit_BNE = F.normalize(context.encoder_key_BNE.float(), dim=-1)
        while (count_B > k - important).any():
            excess_B = (count_B - (k - important)).clamp(min=0)
            drop_B = excess_B.clamp(max=AT_ONCE).minimum((count_B + 1) // 2)
            rest_BM = _without_most_similar(rest_BM, count_B, drop_B, unit_BNE)
            count_B = count_B - drop_B
        rest_BM = rest_BM[:, : k - important]
        kept = torch.cat([order_BI, rest_BM], dim=1)
        return Selection.of(kept, torch.cat([_first(order_BI, size_B), _first(rest_BM, count_B)], dim=1))


def _first(index_BM: torch.Tensor, count_B: torch.Tensor) -> torch.Tensor:
    """Mask of each row's first `count_B` entries."""
    return torch.arange(index_BM.shape[1], device=index_BM.device) < count_B[:, None]


def _without_most_similar(
    rest_BM: torch.Tensor, count_B: torch.Tensor, drop_B: torch.Tensor, unit_BNE: torch.Tensor
) -> torch.Tensor:
    """One round. The first `count_B` entries are real, then `drop_B` fewer; a row that drops none stays."""
    unit_BME = at(unit_BNE, rest_BM)
    real_BM = _first(rest_BM, count_B)
    cosine = unit_BME[:, ::2] @ unit_BME[:, 1::2].transpose(1, 2)
    cosine = cosine.masked_fill(~real_BM[:, None, 1::2], float("-inf"))
    similarity_BM = torch.full(rest_BM.shape, float("-inf"), device=rest_BM.device)
    if cosine.shape[2]:
        similarity_BM[:, ::2] = cosine.amax(2).masked_fill(~real_BM[:, ::2], float("-inf"))
    # Even ones by similarity, then odd ones in their order, then padding; the most similar are cut off in front.
    order_BM = similarity_BM.argsort(dim=1, descending=True, stable=True)
    width = rest_BM.shape[1]
    after_BM = (torch.arange(width, device=rest_BM.device) + drop_B[:, None]) % width
    return torch.where(drop_B[:, None] > 0, rest_BM.gather(1, order_BM.gather(1, after_BM)), rest_BM)
