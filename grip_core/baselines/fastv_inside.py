"""FastV where it was published (Chen et al. 2024, arXiv 2403.06764): inside the language model.

The tokens are ranked by the attention that the prompt's last token pays them in layer K - 1, counted from zero, mean
over heads, and dropped before layer K = 2. `fastv` uses the same score before the language model.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import InsideBaseline
from grip_core.vlm.context import Context
from grip_core.vlm.inside import Observed

K = 2


class FastVInside(InsideBaseline):
    """See the module. A model of fewer than three layers drops before its last."""

    name = "fastv_inside"
    label = "FastV (in LLM)"
    query_aware = True

    def layers(self, n_layers: int) -> list[int]:
        return [min(K, n_layers - 1)]

    def scores(self, context: Context, observed: Observed) -> torch.Tensor:
        return observed.of_visual(observed.attention(1))[:, 0]
