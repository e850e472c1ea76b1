"""Pooling: the token map is averaged over exactly k near-square cells. It merges tokens and drops none."""

from __future__ import annotations

import torch

from grip_core.baselines.base import Baseline
from grip_core.baselines.grid import cut
from grip_core.vlm.context import Context, Selection


class Pooling(Baseline):
    """Adaptive 2-D average pooling; a merged token takes the position of the token nearest to its cell's centre."""

    name = "pooling"
    label = "Average pooling"

    def select(self, context: Context, k: int) -> Selection:
        cells = cut(context, k)
        visual_BND = context.visual_BND.float()
        batch, n, width = visual_BND.shape
        # A channel of ones beside the values counts a cell's tokens; one more cell takes the padding and is cut off.
        counted = torch.cat([visual_BND, visual_BND.new_ones(batch, n, 1)], dim=-1)
        sums = counted.new_zeros(batch, cells.mask_BK.shape[1] + 1, width + 1)
        sums = sums.scatter_add(1, cells.cell_BN[..., None].expand_as(counted), counted)[:, :-1]
        merged_BKD = sums[..., :-1] / sums[..., -1:].clamp(min=1.0)
        return Selection.of(cells.centre_BK, cells.mask_BK, merged_BKD)
