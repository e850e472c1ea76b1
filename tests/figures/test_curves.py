from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.figures.curves import curves


@pytest.fixture
def table() -> pd.DataFrame:
    records = [
        ("seed-0", 0, "accuracy", 0.5),
        ("seed-0", 10, "accuracy", 0.6),
        ("seed-1", 0, "accuracy", 0.5),
        ("seed-1", 10, "accuracy", 0.8),
        ("warmup", 5, "accuracy", 0.1),
        ("warmup", 9, "accuracy", 0.5),
        *((f"seed-{seed}", step, "kl", seed + 0.0) for seed in (0, 1) for step in range(10)),
    ]
    return pd.DataFrame(records, columns=["run", "step", "metric", "value"])


def test_panels_are_the_known_metrics_that_are_there(table):
    titles = [axis.get_title(loc="left") for axis in curves(table).axes]
    assert titles == ["Validation accuracy (mode)", "KL to the warm-up, per pick"]


def test_seeds_thin_mean_bold_warm_up_a_level(table):
    accuracy, kl = curves(table).axes
    lines = {line.get_label(): line for line in accuracy.lines}
    np.testing.assert_allclose(lines["seed-1"].get_ydata(), [0.5, 0.8])
    np.testing.assert_allclose(lines["mean"].get_ydata(), [0.5, 0.7])
    assert list(lines["warmup"].get_ydata()) == [0.5, 0.5]  # its last value
    assert lines["mean"].get_linewidth() > lines["seed-1"].get_linewidth()
    assert {line.get_label() for line in kl.lines} == {"seed-0", "seed-1", "mean"}


def test_training_metrics_are_smoothed_and_validation_is_not(table):
    table.loc[(table["metric"] == "kl") & (table["run"] == "seed-0") & (table["step"] == 4), "value"] = 100.0
    accuracy, kl = curves(table).axes
    assert next(line for line in kl.lines if line.get_label() == "seed-0").get_ydata().max() == 0.0
    assert next(line for line in accuracy.lines if line.get_label() == "seed-1").get_ydata().max() == 0.8
