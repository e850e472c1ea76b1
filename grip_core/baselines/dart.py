"""DART (Wen et al. 2025, arXiv 2502.11494): tokens that do not repeat a few pivots, whatever the attention they get.

Before layer 2 the four visual tokens of largest key L1 norm, over all heads of the layer that has just run, are the
pivots. Beside them go on the tokens whose least cosine to a pivot, between that layer's outputs, is smallest. The
published code adds four text tokens as pivots; here all are visual.
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
        no_pivot_BP1 = (norm_BP == float("-inf"))[..., None]  # a prompt of fewer tokens than pivots
        least_BN = cosine_BPN.masked_fill(no_pivot_BP1, float("inf")).amin(1)
        # Pivots come before all others, in the order of their norms; a cosine is at most 1.
        place_P = torch.arange(pivot_BP.shape[1], 0, -1, dtype=least_BN.dtype, device=least_BN.device)
        return (-least_BN).scatter(1, pivot_BP, 1.0 + place_P.expand_as(norm_BP))
