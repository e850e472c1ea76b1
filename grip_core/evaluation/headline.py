"""The few numbers a pipeline is judged by: accuracy at small budgets, and GRIP against every other method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, SPECIALISTS, WARMUP
from grip_core.evaluation.tables import MEAN, collect_scores, difference_table, seed_means
from grip_core.evaluation.words import verdict_sentences
from grip_core.policy.budgets import headline_budgets


def compared_methods(rows: pd.DataFrame) -> list[str]:
    """What GRIP is compared with: its warm-up first, then the others by name."""
    others = sorted(set(rows["method"]) - {GRIP, WARMUP, FULL, NO_IMAGE, *SPECIALISTS})
    return [WARMUP, *others]


def headline_differences(rows: pd.DataFrame, share: float, confidence: float) -> pd.DataFrame:
    """GRIP minus every compared method at the headline budgets, for each benchmark and on average."""
    return difference_table(rows, GRIP, compared_methods(rows), _budgets(rows, share), confidence)


def headline(rows: pd.DataFrame, differences: pd.DataFrame, share: float, confidence: float) -> dict[str, Any]:
    """A nested dictionary for `dvc metrics`, with the verdict in words. Accuracies are shares in [0, 1]."""
    budgets, n_visual = _budgets(rows, share), _n_visual(rows)
    grid = {FULL: [n_visual], NO_IMAGE: [0]}
    names = [GRIP, *compared_methods(rows), FULL, NO_IMAGE]
    scores = {name: collect_scores(rows, name, grid.get(name, budgets)) for name in names}
    means = {name: seed_means(item) for name, item in scores.items()}
    mean = differences[differences["benchmark"] == MEAN].set_index("method")
    numbers: dict[str, Any] = {
        "share": share,
        "tokens": n_visual,
        "budgets": ", ".join(map(str, budgets)),
        "benchmarks": int(rows["benchmark"].nunique()),
        "questions": int(rows.groupby("benchmark")["example_id"].nunique().sum()),
        "confidence": confidence,
        "accuracy": {name: float(np.mean(values)) for name, values in means.items()},
        "grip_seeds": {str(seed): float(mean) for seed, mean in zip(scores[GRIP].seed_S, means[GRIP], strict=True)},
        "difference": mean[["effect", "low", "high", "n", "verdict"]].to_dict("index"),
    }
    return {**numbers, "verdict": " ".join(verdict_sentences(numbers))}


def _n_visual(rows: pd.DataFrame) -> int:
    return int(rows.loc[rows["method"] == FULL, "k"].max())


def _budgets(rows: pd.DataFrame, share: float) -> list[int]:
    run = sorted(int(k) for k in rows.loc[rows["method"] == GRIP, "k"].unique())
    return headline_budgets(run, share, _n_visual(rows))
