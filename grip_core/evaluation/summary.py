"""Every method in a few numbers over all benchmarks and budgets. They describe; verdicts rest on paired differences.

A task is a benchmark at a budget. Its score is the share that a method keeps of what the image is worth there,
(accuracy - no image) / (full model - no image): 0 is the model without the image, 1 the unpruned one.

Shape legend: R runs (seeds), T tasks, S seeds, K budgets, E examples, X thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from grip_core.errors import UserError
from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, SPECIALISTS
from grip_core.evaluation.tables import collect_scores, seed_means
from grip_core.seeds import numpy_random
from grip_core.statistics.aggregates import (
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from grip_core.statistics.frontier import hypervolume_difference

DRAWS = 2000
THRESHOLDS = np.linspace(-0.1, 1.1, 121)


def summary_table(
    rows: pd.DataFrame, costs: pd.DataFrame | None, budgets: Sequence[int], confidence: float
) -> pd.DataFrame:
    """A row a method, GRIP first, then by falling IQM, over the tasks of `budgets`:

    `iqm` with a bootstrap band over seeds (`iqm_low`, `iqm_high`; NaN with one seed), `gap` to the unpruned model,
    `improvement` (probability that GRIP's run beats one of the method's on a task), `hypervolume` (mean accuracy above
    the model without the image, over the log of FLOPs from the cheapest method's to the unpruned model's) with its
    interval over seeds and images, and `seeds`. `costs` has method, k and flops; what it lacks is NaN.
    """
    scores = task_scores(rows, budgets)
    table = [
        {
            "method": method,
            **_interquartile(scores[method], confidence),
            "gap": optimality_gap(scores[method]),
            "improvement": probability_of_improvement(scores[GRIP], scores[method]) if method != GRIP else np.nan,
            **_hypervolume(rows, costs, method, confidence),
            "seeds": len(scores[method]),
        }
        for method in scores
    ]
    frame = pd.DataFrame(table).assign(first=lambda frame: frame["method"] == GRIP)
    order = frame.sort_values(["first", "iqm", "method"], ascending=[False, False, True])
    return order.drop(columns="first").reset_index(drop=True)


def profile_table(rows: pd.DataFrame, budgets: Sequence[int]) -> pd.DataFrame:
    """method, threshold, share (of runs and tasks whose score is above it), runs and tasks."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "method": method,
                    "threshold": THRESHOLDS,
                    "share": performance_profile(score_RT, THRESHOLDS),
                    "runs": len(score_RT),
                    "tasks": score_RT.shape[1],
                }
            )
            for method, score_RT in task_scores(rows, budgets).items()
        ],
        ignore_index=True,
    )


def task_scores(rows: pd.DataFrame, budgets: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores (R, T) of every ranked method. Raises ValueError where a method lacks a benchmark or one of the budgets,
    and UserError if no benchmark is left.

    A benchmark whose unpruned model is no better than the model without the image measures nothing and is left out.
    """
    means = rows.groupby(["method", "benchmark", "k", "seed"])["correct"].mean()
    level = {name: means[name].groupby("benchmark").mean() for name in (FULL, NO_IMAGE)}
    worth = level[FULL] - level[NO_IMAGE]
    worth = worth[worth > 0]
    if worth.empty:
        raise UserError(
            "pruning can only be judged where the image matters, but the model answers no benchmark's test questions "
            "better with all tokens than without the image; see that its prompt template is the one it was trained on"
        )
    scores = {}
    for method in _ranked(rows):
        cells = means[method].unstack("seed").reindex(pd.MultiIndex.from_product([worth.index, budgets]))
        if cells.isna().any(axis=None):
            raise ValueError(f"{method} lacks answers to some benchmark at one of the budgets {list(budgets)}")
        benchmark_T = cells.index.get_level_values(0)
        floor_T, worth_T = level[NO_IMAGE].loc[benchmark_T].to_numpy(), worth.loc[benchmark_T].to_numpy()
        scores[method] = (cells.to_numpy().T - floor_T) / worth_T
    return scores


def _ranked(rows: pd.DataFrame) -> list[str]:
    return [name for name in sorted(rows["method"].unique()) if name not in (FULL, NO_IMAGE, *SPECIALISTS)]


def _interquartile(scores_RT: np.ndarray, confidence: float) -> dict[str, float]:
    if len(scores_RT) < 2:
        return {"iqm": iqm(scores_RT), "iqm_low": np.nan, "iqm_high": np.nan}
    found = stratified_bootstrap(iqm, scores_RT, DRAWS, numpy_random(0, "summary bootstrap"), confidence)
    return {"iqm": found.effect, "iqm_low": found.low, "iqm_high": found.high}


def _hypervolume(rows: pd.DataFrame, costs: pd.DataFrame | None, method: str, confidence: float) -> dict[str, float]:
    names = ("hypervolume", "hypervolume_low", "hypervolume_high")
    if costs is None or method not in set(costs["method"]):
        return dict.fromkeys(names, np.nan)
    own = rows[rows["method"] == method]
    budgets = sorted(int(k) for k in own["k"].unique())
    flops = costs.set_index(["method", "k"])["flops"]
    scores = [collect_scores(own, method, [k]) for k in budgets]
    score_SKE = np.stack([item.score_SE for item in scores], axis=1)
    first = scores[0]
    floor = collect_scores(rows, NO_IMAGE, [0])
    interval = hypervolume_difference(
        np.array([flops[method, k] for k in budgets]),
        score_SKE,
        np.array([1.0]),
        np.zeros((1, 1, score_SKE.shape[2])),
        first.image_E,
        first.benchmark_E,
        (float(flops.min()), float(flops.loc[FULL].iloc[0])),
        float(seed_means(floor).mean()),
    ).interval(confidence)
    return dict(zip(names, (interval.effect, interval.low, interval.high), strict=True))
