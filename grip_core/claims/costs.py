"""What a selection costs, looked up in the table of measured costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from grip_core.claims.answers import Missing
from grip_core.evaluation.names import GRIP

COLUMNS = ("method", "k", "flops", "seconds")


class Costs:
    """One model's costs an answer: FLOPs at every budget, and seconds of one machine where they were measured (NaN
    elsewhere)."""

    def __init__(self, table: pd.DataFrame | None, arms: Collection[str]):
        """`table` has COLUMNS, a row a method and budget; None where nothing was measured. `arms` cost what GRIP does.

        Raises ValueError if a column is not there or a method and budget come twice.
        """
        self._arms = frozenset(arms)
        self._table = pd.DataFrame(columns=list(COLUMNS)) if table is None else table
        absent = [name for name in COLUMNS if name not in self._table]
        if absent or self._table.duplicated(["method", "k"]).any():
            raise ValueError(f"costs need {', '.join(COLUMNS)}, one row a method and budget, but got {self._table}")
        self._table = self._table.set_index(["method", "k"])

    def check(self) -> None:
        """Raise Missing unless something was measured."""
        if self._table.empty:
            raise Missing("there are no measured costs")

    def absent(self, methods: Iterable[str], column: str) -> list[str]:
        """Those of `methods` that have no "flops", or no "seconds", at any budget."""
        there = self._table[column].dropna().index.unique("method")
        return [name for name in methods if self._key(name) not in there]

    def flops(self, method: str, k: int) -> float:
        """Floating-point operations. Raises Missing if they were not counted."""
        key = self._key(method), k
        if key not in self._table.index or pd.isna(self._table.loc[key, "flops"]):
            raise Missing(f"there are no flops of {method} at k = {k}")
        return float(self._table.loc[key, "flops"])

    def seconds(self, method: str) -> dict[int, float]:
        """Time at each budget at which it was measured, ascending. Raises Missing if it was at none."""
        if self.absent([method], "seconds"):
            raise Missing(f"there are no seconds of {method}")
        seconds = self._table["seconds"].xs(self._key(method), level="method").dropna().sort_index()
        return {int(k): float(value) for k, value in seconds.items()}

    def _key(self, method: str) -> str:
        return GRIP if method in self._arms else method


def priced_like_grip(costs: pd.DataFrame, arms: Iterable[str]) -> pd.DataFrame:
    """The table with GRIP's rows once more under the name of each arm, whose scorer is of the same shape."""
    own = costs[costs["method"] == GRIP]
    return pd.concat([costs, *(own.assign(method=arm) for arm in arms)], ignore_index=True)
