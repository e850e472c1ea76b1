"""From rows of answers to tables with intervals. Benchmarks weigh the same wherever they are averaged ("mean")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from grip_core.statistics.intervals import mean_interval, paired_difference, score_interval
from grip_core.statistics.verdict import verdict

MEAN = "mean"


@dataclass(frozen=True)
class Scores:
    """One method's scores on examples in a fixed order: S seeds, E examples."""

    score_SE: np.ndarray
    """Share of the budgets at which the answer is right, in [0, 1]."""
    seed_S: np.ndarray
    example_E: np.ndarray
    image_E: np.ndarray
    benchmark_E: np.ndarray


def accuracy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """benchmark, method, seed, k, accuracy, n."""
    groups = rows.groupby(["benchmark", "method", "seed", "k"], sort=True)["correct"]
    return groups.agg(accuracy="mean", n="size").reset_index()


def interval_table(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """benchmark (or "mean"), method, k, accuracy, its interval low and high over new seeds and images, the narrower
    seed_low and seed_high over seeds alone (NaN with one seed), seeds, images."""
    table = []
    for (method, k), part in rows.groupby(["method", "k"], sort=True):
        for benchmark in [MEAN, *sorted(part["benchmark"].unique())]:
            scores = collect_scores(part, method, [k], benchmark)
            over_both = score_interval(scores.score_SE, scores.image_E, scores.benchmark_E, confidence)
            over_seeds = mean_interval(seed_means(scores), confidence)
            table.append(
                {
                    "benchmark": benchmark,
                    "method": method,
                    "k": k,
                    "accuracy": over_both.effect,
                    "low": over_both.low,
                    "high": over_both.high,
                    "seed_low": over_seeds.low,
                    "seed_high": over_seeds.high,
                    "seeds": over_seeds.n,
                    "images": over_both.n,
                }
            )
    return pd.DataFrame(table)


def difference_table(
    rows: pd.DataFrame, method: str, others: Sequence[str], budgets: Sequence[int], confidence: float
) -> pd.DataFrame:
    """`method` minus each of `others`, averaged over `budgets`: benchmark (or "mean"), method (the other), effect, low,
    high, n (images), verdict."""
    table = []
    for benchmark in [MEAN, *sorted(rows["benchmark"].unique())]:
        own = collect_scores(rows, method, budgets, benchmark)
        for other in others:
            theirs = collect_scores(rows, other, budgets, benchmark)
            if not np.array_equal(own.example_E, theirs.example_E):
                raise ValueError(f"{method} and {other} were not evaluated on the same examples")
            interval = paired_difference(own.score_SE, theirs.score_SE, own.image_E, own.benchmark_E, confidence)
            said = verdict(interval.low, interval.high)
            table.append({"benchmark": benchmark, "method": other, **asdict(interval), "verdict": said})
    return pd.DataFrame(table)


def collect_scores(rows: pd.DataFrame, method: str, budgets: Sequence[int], benchmark: str = MEAN) -> Scores:
    """One method's scores, sorted by benchmark and id. Raises ValueError if a row is missing or there twice."""
    chosen = rows[(rows["method"] == method) & rows["k"].isin(budgets)]
    if benchmark != MEAN:
        chosen = chosen[chosen["benchmark"] == benchmark]
    cells = chosen.groupby(["benchmark", "example_id", "image_id", "seed"])["correct"]
    sums, counts = cells.sum().unstack("seed"), cells.size().unstack("seed")
    if sums.empty or not (counts == len(budgets)).all(axis=None):
        raise ValueError(f"{method} does not have one row for every example, seed and budget of {list(budgets)}")
    index = sums.index
    return Scores(
        score_SE=sums.to_numpy(float).T / len(budgets),
        seed_S=sums.columns.to_numpy(),
        example_E=index.get_level_values("example_id").to_numpy(),
        image_E=index.get_level_values("image_id").to_numpy(),
        benchmark_E=index.get_level_values("benchmark").to_numpy(),
    )


def seed_means(scores: Scores) -> np.ndarray:
    """Each seed's score, (S,), benchmarks weighing the same."""
    names = np.unique(scores.benchmark_E)
    return np.mean([scores.score_SE[:, scores.benchmark_E == name].mean(1) for name in names], axis=0)
