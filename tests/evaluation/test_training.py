from __future__ import annotations

import pandas as pd

from grip_core.evaluation.training import training_summaries


def test_each_run_is_summed_up():
    rows = [("seed-0", 0, "kept_share", 0.75), ("warmup", 1, "loss", 2.0)]
    for step, reward, accuracy in ((1, 1.0, 0.5), (2, 2.0, 0.4), (3, 3.0, 0.3)):
        rows += [("seed-0", step, "reward", reward), ("seed-0", step, "accuracy", accuracy)]
        rows += [("seed-1", step, "reward", reward), ("seed-1", step, "accuracy", 1 - accuracy)]
    rows.append(("seed-1", 2, "collapse_kl", 1.0))
    curves = pd.DataFrame(rows, columns=["run", "step", "metric", "value"])
    assert training_summaries(curves) == {
        "seed-0": {"kept_share": 0.75, "spearman": -1.0, "diverged": 1.0, "collapse": "no"},
        "seed-1": {"spearman": 1.0, "diverged": 0.0, "collapse": "kl at step 2"},
    }
