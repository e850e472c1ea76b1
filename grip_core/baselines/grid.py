"""Grid: the image is cut into exactly k near-square cells, and each keeps the token nearest to its centre."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from grip_core.baselines.base import Baseline
from grip_core.vlm.context import Context, Selection


class Grid(Baseline):
    """Evenly spaced positions, blind to what is there."""

    name = "grid"
    label = "Grid"

    def select(self, context: Context, k: int) -> Selection:
        cells = cut(context, k)
        return Selection.of(cells.centre_BK, cells.mask_BK)


@dataclass(frozen=True)
class Cells:
    """Disjoint rectangles of visual tokens that cover the image; K is the largest number of them in the batch."""

    cell_BN: torch.Tensor
    """The cell of every token; K where the token pads."""
    centre_BK: torch.Tensor
    """The token of each cell nearest to its centre, ties by the lower index; 0 where the cell pads."""
    mask_BK: torch.Tensor


def cut(context: Context, k: int) -> Cells:
    """Cut each prompt's grid of H x W tokens into min(k, H W) cells; one with gaps, as of tiled images, is taken as
    one row of its tokens, in reading order.

    R = sqrt(k H / W) bands of rows, rounded, share the cells as evenly as integers allow: band i has the cells from
    floor(i k / R) to floor((i + 1) k / R). Rows are shared among the bands, and columns among a band's cells, in the
    same way.
    """
    real_BN = context.visual_mask_BN
    row_BN, column_BN = _without_gaps(context.grid_BN2.masked_fill(~real_BN[..., None], 0), real_BN)
    height_B1 = row_BN.amax(1, keepdim=True) + 1
    width_B1 = column_BN.amax(1, keepdim=True) + 1
    k_B1 = real_BN.sum(1, keepdim=True).clamp(max=k)
    # No fewer bands than a width of one token a cell needs, no more than there are rows or cells.
    fewest_B1 = (k_B1 + width_B1 - 1) // width_B1
    bands_B1 = (k_B1 * height_B1 / width_B1).sqrt().round().long().clamp(fewest_B1, k_B1.minimum(height_B1))
    band_BN = _share(row_BN, height_B1, bands_B1)
    first_BN = band_BN * k_B1 // bands_B1
    cells_in_band_BN = (band_BN + 1) * k_B1 // bands_B1 - first_BN
    cell_BN = first_BN + _share(column_BN, width_B1, cells_in_band_BN)
    size = int(k_B1.max())
    cell_BN = cell_BN.masked_fill(~real_BN, size)
    mask_BK = torch.arange(size, device=cell_BN.device) < k_B1
    return Cells(cell_BN, _centres(cell_BN, row_BN, column_BN, size).masked_fill(~mask_BK, 0), mask_BK)


def _without_gaps(grid_BN2: torch.Tensor, real_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns, (B, N) each, of grids that have a token in each cell."""
    row_BN, column_BN = grid_BN2.unbind(-1)
    width_B1 = column_BN.amax(1, keepdim=True) + 1
    cells_B1 = (row_BN.amax(1, keepdim=True) + 1) * width_B1
    full_B1 = real_BN.sum(1, keepdim=True) == cells_B1
    place_BN = (row_BN * width_B1 + column_BN).masked_fill(~real_BN, torch.iinfo(row_BN.dtype).max)
    rank_BN = place_BN.argsort(dim=1, stable=True).argsort(dim=1).masked_fill(~real_BN, 0)
    return torch.where(full_B1, row_BN, 0), torch.where(full_B1, column_BN, rank_BN)


def _share(index: torch.Tensor, length: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Which of `parts` shares of 0 .. length - 1 holds `index`; share i starts at floor(i length / parts)."""
    return ((index + 1) * parts - 1) // length


def _centres(cell_BN: torch.Tensor, row_BN: torch.Tensor, column_BN: torch.Tensor, size: int) -> torch.Tensor:
    """Index of the token nearest to the centre of each cell, (B, size)."""
    # Twice the centre is the sum of the first and the last coordinate: integers all the way, so ties are exact.
    distance_BN = _from_middle(row_BN, cell_BN, size) + _from_middle(column_BN, cell_BN, size)
    n = cell_BN.shape[1]
    key_BN = distance_BN * n + torch.arange(n, device=cell_BN.device)
    best = key_BN.new_zeros(cell_BN.shape[0], size + 1).scatter_reduce(1, cell_BN, key_BN, "amin", include_self=False)
    return best[:, :size] % n


def _from_middle(coordinate_BN: torch.Tensor, cell_BN: torch.Tensor, size: int) -> torch.Tensor:
    """Square of twice the distance to the middle of the token's cell along one axis."""
    empty = coordinate_BN.new_zeros(coordinate_BN.shape[0], size + 1)
    low = empty.scatter_reduce(1, cell_BN, coordinate_BN, "amin", include_self=False)
    high = empty.scatter_reduce(1, cell_BN, coordinate_BN, "amax", include_self=False)
    return (2 * coordinate_BN - (low + high).gather(1, cell_BN)) ** 2
