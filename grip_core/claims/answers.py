"""The answers of one setting, by method and budget, and in words what of them is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from grip_core.claims.schema import Setting
from grip_core.errors import UserError
from grip_core.evaluation.evaluate import FULL
from grip_core.evaluation.tables import Scores, collect_scores
from grip_core.evaluation.words import listed
from grip_core.policy.budgets import headline_budgets

COLUMNS = ("model", "benchmark", "example_id", "image_id", "method", "seed", "k", "correct")


class Missing(Exception):
    """What a claim cannot be judged without, as a clause; caught where the claim's result is made."""


class Answers:
    """Rows of answers (COLUMNS; any others are left alone) of one setting."""

    def __init__(self, rows: pd.DataFrame, setting: Setting):
        """Raises ValueError if a column is not there."""
        absent = [name for name in COLUMNS if name not in rows]
        if absent:
            raise ValueError(f"rows of answers need the columns {', '.join(COLUMNS)}, but lack {', '.join(absent)}")
        own = rows[(rows["model"] == setting.model) & rows["benchmark"].isin(setting.benchmarks)]
        self._setting = setting
        self._parts: dict[tuple[str, int], pd.DataFrame] = dict(list(own.groupby(["method", "k"])))
        self._scores: dict[tuple[str, tuple[int, ...]], Scores] = {}

        answered = {name for part in self._parts.values() for name in part["benchmark"].unique()}
        self._unanswered = [name for name in setting.benchmarks if name not in answered]

    def check(self) -> None:
        """Raise Missing unless every benchmark was answered by some method."""
        if self._unanswered:
            raise Missing(f"there are no answers of {self._setting.label} to {listed(self._unanswered)}")

    def absent(self, methods: Iterable[str]) -> list[str]:
        """Those of `methods` that have no answers at all."""
        return [name for name in dict.fromkeys(methods) if not self.budgets(name)]

    def budgets(self, method: str) -> list[int]:
        """Every budget at which a method was run, ascending."""
        return sorted(k for name, k in self._parts if name == method)

    def seeds(self, method: str) -> int:
        """How many seeds of a method there are; 0 if it has no answers."""
        return len(
            {seed for (name, _), part in self._parts.items() if name == method for seed in part["seed"].unique()}
        )

    def small_budgets(self, method: str, share: float) -> list[int]:
        """The budgets of at most `share` of the tokens at which a method was run. Raises Missing if there is none."""
        run = self.budgets(method)
        if not run:
            raise Missing(f"there are no answers of {method}")
        try:
            return headline_budgets(run, share, self.n_visual)
        except UserError:
            raise Missing(f"{method} has answers at k = {numbers(run)} only") from None

    @property
    def n_visual(self) -> int:
        """The number of all tokens. Raises Missing if the unpruned model has no answers."""
        if not self.budgets(FULL):
            raise Missing(f"there are no answers of {FULL}")
        return self.budgets(FULL)[-1]

    def scores(self, method: str, budgets: Sequence[int]) -> Scores:
        """A method's scores averaged over budgets. Raises Missing if an answer is."""
        key = method, tuple(budgets)
        if key not in self._scores:
            self._scores[key] = self._collect(method, budgets)
        return self._scores[key]

    def _collect(self, method: str, budgets: Sequence[int]) -> Scores:
        absent = [k for k in budgets if (method, k) not in self._parts]
        if absent:
            raise Missing(f"there are no answers of {method} at k = {numbers(absent)}")
        rows = pd.concat([self._parts[method, k] for k in budgets])
        unanswered = [name for name in self._setting.benchmarks if name not in set(rows["benchmark"])]
        if unanswered:
            raise Missing(f"there are no answers of {method} to {listed(unanswered)}")
        try:
            return collect_scores(rows, method, budgets)
        except ValueError as error:
            raise Missing(str(error)) from None


def numbers(budgets: Sequence[int]) -> str:
    """Budgets as text."""
    return ", ".join(map(str, budgets))
