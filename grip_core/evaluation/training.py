"""What each training run says of itself in a few numbers, from the learning curves."""

from __future__ import annotations

from typing import Any

import pandas as pd

from grip_core.evaluation.curves import COLLAPSE
from grip_core.rl.collapse import reward_accuracy


def training_summaries(curves: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By run, of those trained by reinforcement; `curves` are run, step, metric, value.

    `kept_share` of the training questions that the filter leaves, `spearman` and `diverged` of the reward against
    held-out accuracy (see reward_accuracy), `collapse` ("no", or the cause and the step).
    """
    trained = sorted(set(curves.loc[curves["metric"] == "reward", "run"]))
    return {run: _summary(curves[curves["run"] == run]) for run in trained}


def _summary(curves: pd.DataFrame) -> dict[str, Any]:
    by_step = [
        {"step": step, **dict(zip(part["metric"], part["value"], strict=True))}
        for step, part in curves.groupby("step", sort=True)
    ]
    kept = curves.loc[curves["metric"] == "kept_share", "value"]
    collapses = curves[curves["metric"].str.startswith(COLLAPSE)]
    found = [f"{row.metric.removeprefix(COLLAPSE)} at step {row.step}" for row in collapses.itertuples()]
    return {
        **({"kept_share": float(kept.iloc[0])} if len(kept) else {}),
        **reward_accuracy(by_step),
        "collapse": found[0] if found else "no",
    }
