"""From a table of measured costs to costs at any budget.

The table has a row for every method, k, batch and part, as grip_core/cost/timing.py measures them: seconds per answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from grip_core.cost.answer import answer_flops
from grip_core.cost.dimensions import Model
from grip_core.cost.selection import Prompt
from grip_core.evaluation.evaluate import FULL

Curve = Callable[[np.ndarray | float], np.ndarray]
"""Kept tokens k, one or several, to a cost each."""


def answer_seconds(table: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Seconds of a whole answer, one token of it decoded: the sum of the parts' medians, by method and k."""
    rows = table[table["batch"] == batch]
    return rows.groupby(["method", "k"], as_index=False, sort=True)["seconds"].sum()


def seconds_by_budget(table: pd.DataFrame, batch: int) -> dict[str, Curve]:
    """For each method but the unpruned model, seconds per answer as a function of k that never falls.

    Isotonic regression through the measured budgets, linear between them. At N a method reads every token and still
    pays for its selection, taken as at its largest budget; below its smallest budget the curve is flat, which
    overstates the cost there. Raises ValueError if the table lacks the unpruned model.
    """
    totals = answer_seconds(table, batch)
    full = totals[totals["method"] == FULL]
    if full.empty:
        raise ValueError(f"the costs of the method {FULL} are needed at batch {batch}, but the table has none")
    n_visual, unpruned = int(full["k"].iloc[0]), float(full["seconds"].iloc[0])
    select = table[(table["batch"] == batch) & (table["part"] == "select")].set_index(["method", "k"])["seconds"]
    curves: dict[str, Curve] = {}
    for method, rows in totals[totals["method"] != FULL].groupby("method"):
        budgets = [*rows["k"], n_visual]
        seconds = [*rows["seconds"], unpruned + select[method, rows["k"].max()] - select[FULL, n_visual]]
        curves[str(method)] = _monotone(np.array(budgets), np.array(seconds))
    return curves


def _monotone(budgets_P: np.ndarray, seconds_P: np.ndarray) -> Curve:
    """P measured points."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(budgets_P, seconds_P)
    return lambda k: fitted.predict(np.atleast_1d(np.asarray(k, dtype=float)))


def flops_by_budget(model: Model, method: str, prompt: Prompt, budgets: list[int]) -> pd.DataFrame:
    """FLOPs per answer by formula: method, k, flops."""
    totals = [sum(answer_flops(model, method, prompt, k).values()) for k in budgets]
    return pd.DataFrame({"method": method, "k": budgets, "flops": totals})
