"""The policy: the scorer's shape, and the budgets it is trained at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from grip_core.config.section import Count, NonNegative, Section, Several, Share


class ScorerConfig(Section):
    """The scorer's shape."""

    width: Annotated[int, Field(ge=8, multiple_of=8)]
    layers: Count
    heads: Count

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, but got heads={self.heads} and width={self.width}")
        return self


class BudgetConfig(Section):
    """Budgets k of training, between low and high, both included; grip_core/policy/budgets.py says what each does.

    A schedule reads `low` and `high` and the keys that name it; it leaves the others alone.
    """

    schedule: Literal["constant", "uniform", "log_uniform", "linear", "cosine", "staged", "mixture", "adaptive"]
    low: Count
    high: Count
    constant: Count
    """constant: the one budget."""
    direction: Literal["high_to_low", "low_to_high"]
    """linear, cosine, staged: which end of the range comes first."""
    stages: Count
    """staged: equal parts of the run, each of which opens one more part of the range."""
    values: Annotated[list[Count], *Several]
    """mixture: the budgets."""
    weights: Annotated[list[NonNegative], Field(min_length=1)]
    """mixture: how often each comes, relative to the others."""
    bins: Count
    """adaptive: parts of the range, equal in log k, that are told apart."""
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    """adaptive: share of the past in each part's running mean of the reward's std."""
    exploration: Share
    """adaptive: share of the prompts that are drawn log-uniformly, whatever the signal."""

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low must be at most high, but got low={self.low} and high={self.high}")
        return self

    @model_validator(mode="after")
    def _own_budgets_lie_between(self):
        own = {"constant": [self.constant], "mixture": self.values}.get(self.schedule, [])
        outside = [k for k in own if not self.low <= k <= self.high]
        if outside:
            key = {"constant": "constant", "mixture": "values"}[self.schedule]
            raise ValueError(f"{key} must lie between low={self.low} and high={self.high}, but got {outside[0]}")
        return self

    @model_validator(mode="after")
    def _a_weight_a_value(self):
        if len(self.weights) != len(self.values) or not sum(self.weights) > 0:
            raise ValueError(
                f"weights must be one for each of the {len(self.values)} values and not all 0, but got {self.weights}"
            )
        return self
