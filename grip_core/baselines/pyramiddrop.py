"""PyramidDrop (Xing et al. 2024, arXiv 2410.17247): tokens dropped in stages, fewer the deeper the layer.

At each stage the tokens are ranked by the attention of the prompt's last token, mean over heads, in the layer that has
just run (the authors' code asks the layer about to run). Published are three stages, at a quarter, a half and three
quarters of the depth, and one ratio for all; here the ratio is the one that leaves k tokens.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import InsideBaseline, scaled_layers
from grip_core.vlm.context import Context
from grip_core.vlm.inside import Observed

STAGES = (1 / 4, 1 / 2, 3 / 4)


class PyramidDrop(InsideBaseline):
    """See the module. A shallow model, where stages fall together, has fewer of them."""

    name = "pyramiddrop"
    label = "PyramidDrop (in LLM)"
    query_aware = True

    def layers(self, n_layers: int) -> list[int]:
        return scaled_layers(STAGES, n_layers)

    def scores(self, context: Context, observed: Observed) -> torch.Tensor:
        return observed.of_visual(observed.attention(1))[:, 0]
