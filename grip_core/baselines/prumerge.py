"""PruMerge (Shang et al. 2024, arXiv 2403.15388): the tokens of most attention absorb those that are dropped."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from grip_core.baselines.base import Baseline
from grip_core.baselines.masks import at, best, selection
from grip_core.vlm.context import Context, Selection

NEAREST = 32  # dropped tokens that a kept one absorbs, as published


class PruMerge(Baseline):
    """A kept token i becomes v_i + sum over j of a_j v_j: j runs over the dropped tokens of nearest key, a is the
    encoder attention, as it is.

    Keys are compared by the cosine of their mean over heads. A dropped token may be absorbed by several or by none. The
    original finds the number of kept tokens by a test for outliers, where we are given a budget, and adds one more
    token, an average of all that are dropped, which the budget excludes. It merges before the projector; here the
    projected tokens are merged.
    """

    name = "prumerge"
    label = "PruMerge"

    def select(self, context: Context, k: int) -> Selection:
        visual_BND, attention_BN = context.visual_BND.float(), context.encoder_attention_BN.float()
        kept_BN = best(attention_BN, context.visual_mask_BN, k)
        dropped_BN = context.visual_mask_BN & ~kept_BN
        chosen = selection(kept_BN)
        unit_BNE = F.normalize(context.encoder_key_BNE.float(), dim=-1)
        cosine_BKN = (at(unit_BNE, chosen.kept_RK) @ unit_BNE.transpose(1, 2)).masked_fill(
            ~dropped_BN[:, None], float("-inf")
        )
        nearest_BKM = cosine_BKN.argsort(dim=2, descending=True, stable=True)[..., :NEAREST]
        absorbed_BKN = torch.zeros_like(cosine_BKN).scatter(2, nearest_BKM, 1.0) * dropped_BN[:, None]
        gain_BKD = (absorbed_BKN * attention_BN[:, None]) @ visual_BND
        return replace(chosen, merged_RKD=at(visual_BND, chosen.kept_RK) + gain_BKD)
