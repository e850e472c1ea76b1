"""What training does at the pipeline's own settings: over the runs of all ablations, whose seeds differ.

Shape legend: R runs (seeds), E examples, K budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablation_training import Series, series, steadiness
from grip_core.evaluation.ablations import COLUMNS
from grip_core.evaluation.arms import Answers, settings
from grip_core.statistics.intervals import compare

OF_ARMS = ("arm", "settings", "apart", "detectable")
OWN_COLUMNS = [
    *("ablations", "steps", "pipeline_steps"),
    *(column for column in COLUMNS["stability"].split() if column not in OF_ARMS),
]
"""What they are of, the runs of so many ablations, their steps and those that the pipeline itself has; then the columns
of the table `stability` that tell of runs alone."""
HEADLINE = "headline"
RISE_COLUMNS = ["at", "effect", "low", "high", "corrected_high", "seeds", "images"]
GAIN_COLUMNS = ["seed", "k", "gain"]


@dataclass(frozen=True)
class Own:
    """Runs with nothing but params.yaml's settings."""

    series: Series
    answers: Answers
    ablations: int = 1

    @property
    def steps(self) -> int:
        """Their length."""
        return int(self.series.accuracy.columns[-1])

    @property
    def kind(self) -> tuple[Any, ...]:
        """What runs that are one sample have in common: their length, and what they were asked."""
        return *self.series.accuracy.columns, *self.answers.k_K, *self.answers.example_E


def own_runs(ablation: Ablation) -> Own | None:
    """Those of an ablation; None if it has none."""
    manifest = ablation.export.manifest
    run = next((arm for arm in manifest["arms"] if not settings(manifest, arm)), None)
    return None if run is None else Own(series(ablation, run), ablation.answers[run])


def pooled(parts: Sequence[Own], pipeline_steps: int) -> list[Own]:
    """A sample for each kind of runs, with every seed once: ablations with a seed in common have run it twice. First
    comes the largest of those that are as long as the pipeline's own, if there is one, or else the largest."""
    groups: dict[tuple[Any, ...], list[Own]] = {}
    for part in parts:
        groups.setdefault(part.kind, []).append(part)
    found = [_together(group) for group in groups.values()]
    return sorted(found, key=lambda own: (own.steps == pipeline_steps, len(own.answers.seed_R)), reverse=True)


def _together(parts: Sequence[Own]) -> Own:
    first_R = np.unique(np.concatenate([part.answers.seed_R for part in parts]), return_index=True)[1]
    runs, answers = [part.series for part in parts], [part.answers for part in parts]
    return Own(
        Series(
            pd.concat([part.accuracy for part in runs]).iloc[first_R],
            pd.concat([part.reward for part in runs]).iloc[first_R],
            np.concatenate([part.test_R for part in runs])[first_R],
            np.concatenate([part.collapsed_R for part in runs])[first_R],
            np.concatenate([part.agreement for part in runs]),  # seeds of two ablations were not compared
            runs[0].chance,  # all are asked at the same budgets
        ),
        replace(
            answers[0],
            correct_REK=np.concatenate([part.correct_REK for part in answers])[first_R],
            seed_R=np.concatenate([part.seed_R for part in answers])[first_R],
        ),
        len(parts),
    )


def own_table(samples: Sequence[Own], pipeline_steps: int, confidence: float) -> pd.DataFrame:
    """OWN_COLUMNS, a row a sample."""
    rows = [
        {
            "ablations": own.ablations,
            "steps": own.steps,
            "pipeline_steps": pipeline_steps,
            **steadiness(own.series, confidence),
        }
        for own in samples
    ]
    return pd.DataFrame(rows, columns=OWN_COLUMNS)


def rises(own: Own, start: Answers, headline: Sequence[int], confidence: float) -> pd.DataFrame:
    """RISE_COLUMNS: test accuracy minus that of `start`, the warm-up, over new seeds and new images; `at` each budget,
    and at HEADLINE, the mean of the headline budgets. A single run has no bounds.

    `corrected_high` is the upper bound of intervals that hold at all single budgets at once (Bonferroni).
    """
    ours, theirs, budgets = in_common(own.answers, start)
    table = []
    for at, asked in [(HEADLINE, list(headline)), *((str(k), [k]) for k in budgets)]:
        item = compare(ours.at(asked), theirs.at(asked), ours.image_E, ours.benchmark_E)
        found = item.interval(confidence)
        several = 1 if at == HEADLINE else len(budgets)
        corrected = item.interval(1 - (1 - confidence) / several).high
        table.append((at, found.effect, found.low, found.high, corrected, len(ours.seed_R), found.n))
    rows = pd.DataFrame(table, columns=RISE_COLUMNS)
    return rows if len(ours.seed_R) > 1 else rows.assign(low=math.nan, high=math.nan, corrected_high=math.nan)


def gains(own: Own, start: Answers) -> pd.DataFrame:
    """GAIN_COLUMNS: test accuracy of each run minus that of `start`, at each budget."""
    ours, theirs, budgets = in_common(own.answers, start)
    by_budget = {k: ours.seed_means([k]) - theirs.seed_means([k]).mean() for k in budgets}
    found = [(seed, k, gain) for k, gain_R in by_budget.items() for seed, gain in zip(ours.seed_R, gain_R, strict=True)]
    return pd.DataFrame(found, columns=GAIN_COLUMNS)


def in_common(one: Answers, other: Answers) -> tuple[Answers, Answers, list[int]]:
    """Both, with the questions that both have been asked, and the budgets at which both were."""
    common = set(one.names) & set(other.names)
    return one.only(common), other.only(common), sorted(set(one.k_K.tolist()) & set(other.k_K.tolist()))
