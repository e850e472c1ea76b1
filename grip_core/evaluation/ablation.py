"""An ablation's export, and what its tables are made of.

Shape legend: R runs (seeds) of an arm, E examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from grip_core.evaluation.arms import Answers, Arm, answers_of, choose_arms
from grip_core.evaluation.exports import AblationExport
from grip_core.policy.budgets import headline_budgets
from grip_core.statistics.intervals import Comparison, Interval, compare


@dataclass(frozen=True)
class Ablation:
    """An export, with the number of visual tokens and what is asked of it."""

    name: str
    export: AblationExport
    tokens: int
    share: float
    """The headline averages the budgets of at most this share of the tokens."""
    confidence: float

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Those that count, by name, the baseline first."""
        return choose_arms(self.export, self.name)

    @cached_property
    def baseline(self) -> Arm:
        return next(iter(self.arms.values()))

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """By the arm's name in the export."""
        found = {arm: answers_of(self.export.answers, arm) for arm in self.export.manifest["arms"]}
        first = next(iter(found.values()))
        for arm, item in found.items():
            if not np.array_equal(item.example_E, first.example_E):
                raise ValueError(f"{arm} of the ablation {self.name} did not answer the questions of the other arms")
        return found

    @cached_property
    def budgets(self) -> list[int]:
        """Those that the headline averages."""
        return headline_budgets([int(k) for k in self.answers[self.baseline.run].k_K], self.share, self.tokens)

    @cached_property
    def means(self) -> dict[str, np.ndarray]:
        """Headline accuracy of each seed, (R,), by the arm's name in the export."""
        return {arm: item.seed_means(self.budgets) for arm, item in self.answers.items()}

    def same_seeds(self, *arms: str) -> bool:
        """Whether arms, by their names in the export, were run with the same seeds: then a seed has drawn the same
        prompts, budgets and noise in each, as far as their settings let it."""
        first, *others = (self.answers[arm].seed_R for arm in arms)
        return all(np.array_equal(first, seed_R) for seed_R in others)

    def comparison(self, arm: str, other: str, budgets: Sequence[int]) -> Comparison:
        """Of two arms by their names in the export, over seeds, in pairs where they are the same, and images."""
        one, two = self.answers[arm], self.answers[other]
        same = self.same_seeds(arm, other)
        return compare(one.at(budgets), two.at(budgets), one.image_E, one.benchmark_E, same)

    def apart(self, arm: str, other: str) -> float:
        """Standard deviation over seeds of the difference between two arms' headline accuracies; NaN of one seed."""
        one_R, two_R = self.means[arm], self.means[other]
        if min(len(one_R), len(two_R)) < 2:
            return math.nan
        if self.same_seeds(arm, other):
            return float(np.std(one_R - two_R, ddof=1))
        return math.hypot(np.std(one_R, ddof=1), np.std(two_R, ddof=1))

    def seconds(self, arm: str) -> float:
        """That an arm's runs took together, one after another, with its own warm-up if it has one."""
        return self.export.manifest["arms"][arm]["provenance"]["seconds"]

    def interval(self, arm: str, budgets: Sequence[int]) -> Interval:
        """Of an arm's accuracy."""
        one = self.answers[arm]
        score_RE = one.at(budgets)
        zero = np.zeros((1, score_RE.shape[1]))
        return compare(score_RE, zero, one.image_E, one.benchmark_E).interval(self.confidence)


def of_arm(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """Rows of an arm by its name in the export, by seed where there is one."""
    rows = table[table["arm"] == run]
    return rows.sort_values("seed") if "seed" in rows else rows
