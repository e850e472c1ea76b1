"""What a selection costs, looked up in the table of measured costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from grip_core.claims.answers import Missing
from grip_core.evaluation.names import GRIP

COLUMNS = ("method", "k", "flops", "seconds")


class Costs:
    """One model's costs an answer: FLOPs, and seconds of one machine."""

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

    def absent(self, methods: Iterable[str]) -> list[str]:
        """Those of `methods` that have no costs at all."""
        return [name for name in methods if self._key(name) not in self._table.index.unique("method")]

    def flops(self, method: str, k: int) -> float:
        """Floating-point operations. Raises Missing if they were not counted."""
        return self._value(method, k, "flops")

    def seconds(self, method: str, k: int) -> float:
        """Time. Raises Missing if it was not measured."""
        return self._value(method, k, "seconds")

    def _value(self, method: str, k: int, column: str) -> float:
        key = self._key(method), k
        if key not in self._table.index or pd.isna(self._table.loc[key, column]):
            raise Missing(f"there are no {column} of {method} at k = {k}")
        return float(self._table.loc[key, column])

    def _key(self, method: str) -> str:
        return GRIP if method in self._arms else method
