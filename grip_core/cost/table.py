"""What a whole answer costs, by method and budget: measured seconds, and FLOPs by formula."""

from __future__ import annotations

import pandas as pd

from grip_core.cost.answer import answer_flops
from grip_core.cost.dimensions import Model
from grip_core.cost.selection import Prompt


def answer_seconds(table: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Seconds of a whole answer, one token of it decoded: the sum of the parts' medians, by method and k.

    `table` has method, k, batch, part and seconds per answer, as grip_core/cost/timing.py measures them.
    """
    rows = table[table["batch"] == batch]
    return rows.groupby(["method", "k"], as_index=False, sort=True)["seconds"].sum()


def flops_by_budget(model: Model, method: str, prompt: Prompt, budgets: list[int]) -> pd.DataFrame:
    """FLOPs per answer by formula: method, k, flops."""
    totals = [sum(answer_flops(model, method, prompt, k).values()) for k in budgets]
    return pd.DataFrame({"method": method, "k": budgets, "flops": totals})
