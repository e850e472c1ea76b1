"""Budget schedules: which k a prompt is trained with, and the budgets of the headline.

A schedule is pure. What it has learned from rewards is a state of plain JSON values, which a checkpoint stores and
gives back bit for bit; where it stands in the run is an argument, and randomness a generator. B counts the prompts of
one rollout. A range (low, high) holds both its ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch

from grip_core.config import BudgetConfig
from grip_core.errors import UserError

BudgetState = dict[str, list[float | None]]
Range = tuple[int, int]


class BudgetSchedule(Protocol):
    """What decides the budgets of a run, rollout by rollout."""

    def initial(self) -> BudgetState:
        """The state before the first rollout; empty if the schedule learns nothing."""

    def sample(self, state: BudgetState, step: int, total: int, count: int, generator: torch.Generator) -> torch.Tensor:
        """Budgets k_B (count,), int64, of rollout `step` in [0, total)."""

    def update(self, state: BudgetState, k_B: torch.Tensor, reward_std_B: torch.Tensor) -> BudgetState:
        """The state after a rollout at budgets k_B whose groups' rewards had these standard deviations.

        `state` itself is left as it is.
        """


def make_schedule(config: BudgetConfig) -> BudgetSchedule:
    """The schedule that `config` names."""
    return SCHEDULES[config.schedule](config)


class Stateless:
    """The half of a schedule that learns nothing from rewards."""

    def initial(self) -> BudgetState:
        return {}

    def update(self, state: BudgetState, k_B: torch.Tensor, reward_std_B: torch.Tensor) -> BudgetState:
        return state


@dataclass(frozen=True)
class Constant(Stateless):
    """Always the same k."""

    k: int

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        return torch.full((count,), self.k)


@dataclass(frozen=True)
class Uniform(Stateless):
    """Every budget is as likely."""

    low: int
    high: int

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        return torch.randint(self.low, self.high + 1, (count,), generator=generator)


@dataclass(frozen=True)
class LogUniform(Stateless):
    """Every octave is as likely; see `log_uniform`."""

    low: int
    high: int

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        return log_uniform(self.low, self.high, count, generator)


@dataclass(frozen=True)
class Annealing(Stateless):
    """One budget for all prompts of a rollout, which goes from `start` at the first to `end` at the last.

    `shape` maps the part of the run that is over to the part of the way that is done, [0, 1] onto [0, 1].
    """

    start: int
    end: int
    shape: Callable[[float], float]

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        done = self.shape(step / max(1, total - 1))  # a run of one rollout stands at its start
        # Half up: `round` takes halves to even numbers, which would come up three times as often as odd ones.
        return torch.full((count,), math.floor(self.start + (self.end - self.start) * done + 0.5))


@dataclass(frozen=True)
class Staged(Stateless):
    """A curriculum: the run is cut into as many stages as there are parts, and each opens the next part.

    Budgets are log-uniform over all that is open, which is one range, for each part borders on the one before. In a run
    of fewer rollouts than parts the last ones stay closed.
    """

    parts: tuple[Range, ...]

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        opened = self.parts[: 1 + step * len(self.parts) // total]
        return log_uniform(min(low for low, _ in opened), max(high for _, high in opened), count, generator)


@dataclass(frozen=True)
class Mixture(Stateless):
    """Some budgets, each as often as its weight says."""

    values: tuple[int, ...]
    weights: tuple[float, ...]

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        return torch.tensor(self.values)[_choose(self.weights, count, generator)]


@dataclass(frozen=True)
class Adaptive:
    """Budgets follow the signal: a bin comes up in proportion to its rewards' mean within-group standard deviation.

    Within a bin budgets are log-uniform. A share of `exploration` is log-uniform over all bins, so that a signal that
    comes back is seen. A bin not seen so far counts as the best of those seen; with no signal at all bins come up
    equally often. The state's "std" holds the running mean of each bin, None if not seen; `smoothing` is the share of
    the past in it, and a rollout that the bin has no part in leaves it alone.
    """

    bins: tuple[Range, ...]
    smoothing: float
    exploration: float

    def initial(self) -> BudgetState:
        return {"std": [None] * len(self.bins)}

    def sample(self, state, step, total, count, generator) -> torch.Tensor:
        explores_B = torch.rand(count, generator=generator, dtype=torch.float64) < self.exploration
        bin_B = _choose(self._weights(state), count, generator)
        whole = (self.bins[0][0], self.bins[-1][1])
        range_B = bin_B.masked_fill(explores_B, len(self.bins))
        return _log_uniform_within([*self.bins, whole], range_B, generator)

    def update(self, state: BudgetState, k_B: torch.Tensor, reward_std_B: torch.Tensor) -> BudgetState:
        bin_B = torch.searchsorted(torch.tensor([high for _, high in self.bins]), k_B)
        std_B = reward_std_B.double().cpu()
        return {"std": [self._mean(old, std_B[bin_B == i]) for i, old in enumerate(state["std"])]}

    def _mean(self, old: float | None, std_B: torch.Tensor) -> float | None:
        if not len(std_B):
            return old
        new = std_B.mean().item()
        return new if old is None else self.smoothing * old + (1 - self.smoothing) * new

    def _weights(self, state: BudgetState) -> list[float]:
        largest = max((mean for mean in state["std"] if mean is not None), default=0.0)
        weights = [largest if mean is None else mean for mean in state["std"]]
        return weights if any(weights) else [1.0] * len(weights)


def log_uniform(low: int, high: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Budgets k (count,), int64, in [low, high]: log k is uniform over [log low, log(high + 1)), k rounded down.

    So few tokens come up as often as many, per octave; k has probability log((k + 1) / k) / log((high + 1) / low).
    """
    return _log_uniform_within([(low, high)], torch.zeros(count, dtype=torch.long), generator)


def split(low: int, high: int, parts: int) -> tuple[Range, ...]:
    """Cut a range into `parts` ranges, in rising order and as equal in log k as whole budgets allow.

    There are fewer where the range is too short for so many: a part that would be empty is left out.
    """
    ratio = (high + 1) / low
    edges = sorted({low, *(round(low * ratio ** (i / parts)) for i in range(1, parts)), high + 1})
    return tuple((edge, following - 1) for edge, following in pairwise(edges))


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


def _log_uniform_within(ranges: Sequence[Range], range_B: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As `log_uniform`, each prompt in the range of its own that `range_B` points to."""
    uniform_B = torch.rand(len(range_B), generator=generator, dtype=torch.float64)
    low_B, high_B = torch.tensor(ranges)[range_B].unbind(1)
    logs = [(math.log(low), math.log(high + 1)) for low, high in ranges]
    start_B, end_B = torch.tensor(logs, dtype=torch.float64)[range_B].unbind(1)
    return (start_B + uniform_B * (end_B - start_B)).exp().long().clamp(low_B, high_B)


def _choose(weights: Sequence[float], count: int, generator: torch.Generator) -> torch.Tensor:
    """Indices (count,) into `weights`, each with probability proportional to its weight."""
    shares = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    uniform_B = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.searchsorted(shares / shares[-1], uniform_B, right=True)  # right: a weight of 0 is never drawn


def _linear(done: float) -> float:
    return done


def _cosine(done: float) -> float:
    return (1 - math.cos(math.pi * done)) / 2


def _ends(config: BudgetConfig) -> Range:
    return (config.low, config.high) if config.direction == "low_to_high" else (config.high, config.low)


def _staged(config: BudgetConfig) -> Staged:
    parts = split(config.low, config.high, config.stages)
    return Staged(parts if config.direction == "low_to_high" else parts[::-1])


SCHEDULES: dict[str, Callable[[BudgetConfig], BudgetSchedule]] = {
    "constant": lambda config: Constant(config.constant),
    "uniform": lambda config: Uniform(config.low, config.high),
    "log_uniform": lambda config: LogUniform(config.low, config.high),
    "linear": lambda config: Annealing(*_ends(config), _linear),
    "cosine": lambda config: Annealing(*_ends(config), _cosine),
    "staged": _staged,
    "mixture": lambda config: Mixture(tuple(config.values), tuple(config.weights)),
    "adaptive": lambda config: Adaptive(
        split(config.low, config.high, config.bins), config.smoothing, config.exploration
    ),
}
"""The schedules of budgets.schedule by name."""
