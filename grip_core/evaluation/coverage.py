"""How the kept patches lie on the image: how often each is kept, and how far the others are from the nearest kept one.

Distances are Euclidean between the centers of patches, in sides of a patch. Grids are (rows, columns), numbered row by
row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def patch_distances(grid: tuple[int, int]) -> np.ndarray:
    """Between every two patches of the grid, (N, N)."""
    position_N2 = np.indices(grid).reshape(2, -1).T
    return np.linalg.norm(position_N2[:, None] - position_N2[None], axis=-1)


def nearest_kept(distance_NN: np.ndarray, kept: Sequence[int]) -> float:
    """Mean over all patches of the distance to the nearest kept one; 0 where all are kept.

    Raises ValueError where none is.
    """
    if len(kept) == 0:
        raise ValueError("the distance to the nearest kept patch needs at least one kept patch")
    return float(distance_NN[np.asarray(kept)].min(0).mean())


def coverage_table(rows: pd.DataFrame, grid: tuple[int, int]) -> pd.DataFrame:
    """benchmark, method, k, distance (`nearest_kept`, averaged over seeds and questions) and n, the answers averaged.

    `rows` has benchmark, method, k and kept. Rows that keep nothing have no distance and are left out.
    """
    distance_NN = patch_distances(grid)
    some = rows[rows["kept"].map(len) > 0]
    measured = some.assign(distance=[nearest_kept(distance_NN, kept) for kept in some["kept"]])
    groups = measured.groupby(["benchmark", "method", "k"], sort=True)["distance"]
    return groups.agg(distance="mean", n="size").reset_index()


def keep_share_table(rows: pd.DataFrame, k: int, grid: tuple[int, int]) -> pd.DataFrame:
    """method, row, column, share (of the answers at budget k for which the patch was kept) and n, those answers."""
    row_N, column_N = np.indices(grid).reshape(2, -1)
    tables = []
    for method, part in rows[rows["k"] == k].groupby("method", sort=True):
        count_N = np.bincount(np.concatenate([np.asarray(kept, int) for kept in part["kept"]]), minlength=len(row_N))
        share_N = count_N / len(part)
        tables.append(
            pd.DataFrame({"method": method, "row": row_N, "column": column_N, "share": share_N, "n": len(part)})
        )
    return pd.concat(tables, ignore_index=True)
