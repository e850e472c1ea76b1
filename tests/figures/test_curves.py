from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from grip_core.figures.curves import curves

COLUMNS = ["run", "step", "metric", "value"]


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
    return pd.DataFrame(records, columns=COLUMNS)


def with_rows(table: pd.DataFrame, *records: tuple[str, int, str, float]) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame(records, columns=COLUMNS)], ignore_index=True)


def titles(table: pd.DataFrame) -> list[str]:
    return [axis.get_title(loc="left") for axis in curves(table).axes]


def named(axis) -> dict:
    return {line.get_label(): line for line in axis.lines}


def test_panels_are_the_known_metrics_that_are_there(table):
    assert titles(table) == ["Validation accuracy", "KL to the warm-up, per pick"]


@pytest.mark.parametrize(
    ("metric", "silent", "telling", "title"),
    [("clip_share", 0.0, 0.01, "Share clipped"), ("ess", 1.0, 0.99, "Effective sample size")],
)
def test_what_on_policy_training_fixes_has_no_panel(table, metric, silent, telling, title):
    assert len(titles(with_rows(table, ("seed-0", 1, metric, silent)))) == 2
    assert titles(with_rows(table, ("seed-0", 1, metric, silent), ("seed-1", 1, metric, telling)))[-1] == title


def test_seeds_thin_mean_bold_warm_up_a_level(table):
    accuracy, kl = curves(table).axes
    lines = named(accuracy)
    np.testing.assert_allclose(lines["seed-1"].get_ydata(), [0.5, 0.8])
    np.testing.assert_allclose(lines["mean"].get_ydata(), [0.5, 0.7])
    assert list(lines["warmup"].get_ydata()) == [0.5, 0.5]  # its last value
    assert lines["mean"].get_linewidth() > lines["seed-1"].get_linewidth()
    assert {line.get_label() for line in kl.lines} == {"seed-0", "seed-1", "mean"}


def test_training_metrics_are_smoothed_and_validation_is_not(table):
    table.loc[(table["metric"] == "kl") & (table["run"] == "seed-0") & (table["step"] == 4), "value"] = 100.0
    accuracy, kl = curves(table).axes
    assert named(kl)["seed-0"].get_ydata().max() == 0.0
    assert named(accuracy)["seed-1"].get_ydata().max() == 0.8


def test_the_mode_and_the_sample_share_a_panel(table):
    accuracy, _ = curves(
        with_rows(table, ("seed-0", 10, "sampled_accuracy", 0.4), ("seed-1", 10, "sampled_accuracy", 0.6))
    ).axes
    means = [line for line in accuracy.lines if line.get_label() == "mean"]
    np.testing.assert_allclose(means[0].get_ydata(), [0.5, 0.7])
    np.testing.assert_allclose(means[1].get_ydata(), [0.5])
    assert means[0].get_color() != means[1].get_color()
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["mode", "one sample"]


def test_a_run_that_ends_early_ends_the_mean_with_it(table):
    _, kl = curves(table[(table["run"] != "seed-1") | (table["step"] < 6)]).axes
    lines = named(kl)
    assert list(lines["seed-0"].get_xdata()) == list(range(10))
    assert list(lines["seed-1"].get_xdata()) == list(lines["mean"].get_xdata()) == list(range(6))
    np.testing.assert_allclose(lines["mean"].get_ydata(), 0.5)


def test_a_collapse_is_a_line_in_every_panel_and_has_its_cause_below(table):
    figure = curves(with_rows(table, ("seed-1", 7, "collapse_kl", 1.0)))
    assert [list(named(axis)["collapse"].get_xdata()) for axis in figure.axes] == [[7, 7], [7, 7]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[-1] == "collapse: seed-1 at step 7 (kl)"
    assert len(texts) == 4
