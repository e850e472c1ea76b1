"""DART (Wen et al. 2025, arXiv 2502.11494): tokens that do not repeat a few pivots, whatever the attention they get.

Before layer 2 the four visual tokens of largest key L1 norm, over all heads of the layer that has just run, are the
pivots. Beside them the pivots in turn each take the token of smallest cosine to them, between that layer's outputs,
that is still there, until k are kept. The published code adds four text tokens as pivots; here all are visual.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import InsideBaseline
from grip_core.vlm.context import Context
from grip_core.vlm.inside import Observed

K = 2
PIVOTS = 4


class Dart(InsideBaseline):
    """See the module. A model of fewer than three layers drops before its last."""

    name = "dart"
    label = "DART (in LLM)"

    def layers(self, n_layers: int) -> list[int]:
        return [min(K, n_layers - 1)]

    def scores(self, context: Context, observed: Observed) -> torch.Tensor:
        norm_BS = observed.key_BGSE.float().abs().sum(dim=(1, 3))
        norm_BN = observed.of_visual(norm_BS).masked_fill(~observed.present_BN, float("-inf"))
        norm_BP, pivot_BP = norm_BN.topk(min(PIVOTS, norm_BN.shape[1]), dim=1)
        hidden_BDN = F.normalize(observed.of_visual(observed.hidden_BSD.float().transpose(1, 2)), dim=1)
        pivot_BDP = hidden_BDN.gather(2, pivot_BP[:, None].expand(-1, hidden_BDN.shape[1], -1))
        cosine_BPN = pivot_BDP.transpose(1, 2) @ hidden_BDN
        # A prompt of fewer tokens than pivots asks its first one again.
        first_BP1 = cosine_BPN[:, :1].expand_as(cosine_BPN)
        cosine_BPN = torch.where((norm_BP == float("-inf"))[..., None], first_BP1, cosine_BPN)
        return -turns(cosine_BPN, pivot_BP, observed.present_BN)


def turns(cosine_BPN: torch.Tensor, pivot_BP: torch.Tensor, present_BN: torch.Tensor) -> torch.Tensor:
    """Place of every token, (B, N): the pivots first, then the pivots in turn each take their least similar token."""
    batch, pivots, n = cosine_BPN.shape
    row_B = torch.arange(batch, device=cosine_BPN.device)
    place_BN = torch.full_like(cosine_BPN[:, 0], 2.0 * n).scatter(
        1, pivot_BP, torch.arange(pivots, dtype=cosine_BPN.dtype, device=cosine_BPN.device).expand(batch, -1)
    )
    left_BN = present_BN.scatter(1, pivot_BP, torch.zeros_like(pivot_BP, dtype=torch.bool))
    for step in range(n - pivots):
        pick_B = cosine_BPN[:, step % pivots].masked_fill(~left_BN, float("inf")).argmin(1)
        place_BN[row_B, pick_B] = torch.where(left_BN[row_B, pick_B], float(pivots + step), place_BN[row_B, pick_B])
        left_BN[row_B, pick_B] = False
    return place_BN
