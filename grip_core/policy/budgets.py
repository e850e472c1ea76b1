"""Budget schedules: which k a prompt is trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from grip_core.config import BudgetConfig
from grip_core.errors import UserError


def sample_budgets(config: BudgetConfig, count: int, generator: torch.Generator) -> torch.Tensor:
    """Budgets k (count,), int64, between `low` and `high`, both included.

    "log_uniform" draws log k uniformly and rounds down, so that few tokens come up as often as many, per octave.
    """
    if config.schedule == "uniform":
        return torch.randint(config.low, config.high + 1, (count,), generator=generator)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    low, high = math.log(config.low), math.log(config.high + 1)
    return (low + uniform * (high - low)).exp().long().clamp(config.low, config.high)


def headline_budgets(budgets: Sequence[int], share: float, n_visual: int) -> list[int]:
    """The budgets of at most `share` of `n_visual` tokens: those the headline number averages over.

    Raises UserError if there is none.
    """
    chosen = [k for k in budgets if k <= share * n_visual + 1e-9]  # .29 * 100 is below 29
    if not chosen:
        raise UserError(
            f"evaluate.budgets must hold a budget of at most evaluate.headline_share = {share} of the {n_visual} "
            f"tokens, but got {list(budgets)}; add a smaller one"
        )
    return chosen
