"""When a run has collapsed, and whether its reward still speaks for it: pure functions of its rows of metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from grip_core.config import CollapseConfig

Cause = Literal["entropy", "kl", "accuracy", "nan"]
Row = Mapping[str, float]

ROUNDING = 1e-9  # of differences of accuracies: they are shares of questions, and may lie on a threshold itself


@dataclass(frozen=True)
class Collapse:
    """The step whose row completed a collapse, and what broke."""

    step: int
    cause: Cause


class CollapseDetector:
    """Sees a run's rows in their order, once each; a resumed run shows it the rows so far again.

    A rollout's row has "reward", "entropy" and "kl"; the rows of its further updates, without "reward", do not count.
    An evaluation's row has "accuracy", that of step 0 being the warm-up's. Conditions have to hold for
    `config.evaluations` rollouts or evaluations in a row; a value that is not finite is a collapse at once.
    """

    def __init__(self, config: CollapseConfig) -> None:
        self.config = config
        self.found: Collapse | None = None
        """The first collapse."""
        self._warmup = math.nan  # nothing is below it
        self._in_a_row: dict[Cause, int] = {"entropy": 0, "kl": 0, "accuracy": 0}

    def see(self, row: Row) -> Collapse | None:
        """The collapse if this row completes the first one, else None. Of several causes at once, the first in `Cause`
        counts, but "nan" before all."""
        if self.found is not None:
            return None
        cause = self._cause(row)
        if cause is not None:
            self.found = Collapse(int(row["step"]), cause)
        return self.found

    def _cause(self, row: Row) -> Cause | None:
        if not all(math.isfinite(value) for value in row.values()):
            return "nan"
        if row["step"] == 0:
            self._warmup = row.get("accuracy", math.nan)
        for cause, holds in self._conditions(row).items():
            self._in_a_row[cause] = self._in_a_row[cause] + 1 if holds else 0
        full = (cause for cause, count in self._in_a_row.items() if count == self.config.evaluations)
        return next(full, None)

    def _conditions(self, row: Row) -> dict[Cause, bool]:
        """Of those that this row tells about, which hold."""
        conditions: dict[Cause, bool] = {}
        if "reward" in row and "entropy" in row:
            conditions["entropy"] = row["entropy"] < self.config.entropy
        if "reward" in row and "kl" in row:
            conditions["kl"] = row["kl"] > self.config.kl
        if "accuracy" in row:
            conditions["accuracy"] = self._warmup - row["accuracy"] > self.config.accuracy_drop + ROUNDING
        return conditions


def find_collapse(rows: Iterable[Row], config: CollapseConfig) -> Collapse | None:
    """The first collapse of a run; None if it held."""
    detector = CollapseDetector(config)
    return next((found for found in map(detector.see, rows) if found is not None), None)


def reward_accuracy(rows: Sequence[Row]) -> dict[str, float]:
    """Whether the training reward and held-out accuracy went together.

    Every evaluation after step 0 is paired with the mean reward of the rollouts since the one before. `spearman` is
    their rank correlation; `diverged` is 1.0 where the reward is higher in the last third of the evaluations than in
    the first and the accuracy is lower, else 0.0. With fewer than three evaluations there is neither; where reward or
    accuracy never changes there is no correlation.
    """
    rewards: list[float] = []
    pairs = []
    for row in rows:
        if "reward" in row:
            rewards.append(row["reward"])
        if "accuracy" in row:
            if rewards:
                pairs.append((np.mean(rewards), row["accuracy"]))
            rewards = []
    if len(pairs) < 3:
        return {}
    series = np.array(pairs).round(9)  # or means that are equal but for rounding would have ranks of their own
    third = len(pairs) // 3
    reward_gain, accuracy_gain = series[-third:].mean(0) - series[:third].mean(0)
    found = {"diverged": float(reward_gain > ROUNDING and accuracy_gain < -ROUNDING)}
    if (np.ptp(series, axis=0) > 0).all():
        found["spearman"] = float(spearmanr(series[:, 0], series[:, 1]).statistic)
    return found
