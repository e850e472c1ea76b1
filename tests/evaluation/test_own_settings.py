"""Runs of the pipeline's own settings are one sample, whichever ablations they are of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grip_core.evaluation.ablation_training import series
from grip_core.evaluation.arms import answers_of
from grip_core.evaluation.own_settings import (
    GAIN_COLUMNS,
    HEADLINE,
    OWN_COLUMNS,
    RISE_COLUMNS,
    Own,
    gains,
    own_runs,
    own_table,
    pooled,
    rises,
)
from grip_core.statistics.intervals import compare
from tests.evaluation import made_ablations
from tests.evaluation.made_ablations import BUDGETS, CONFIDENCE, SCHEDULES, Made, ablation_of, made_export, made_warmup

START = answers_of(made_warmup(0.4), "warmup")


def own_of(folder, first: int = 0, collapsed: int = 0, **settings) -> Own | None:
    arms = {
        "baseline": Made({"schedule": "log_uniform"}, collapsed=collapsed, settings=settings),
        "schedule=only_2": SCHEDULES["schedule=only_2"],
    }
    return own_runs(ablation_of(made_export(folder, arms, first=first)))


def test_ablations_of_other_seeds_add_up(tmp_path):
    one, two = own_of(tmp_path / "one"), own_of(tmp_path / "two", first=4, collapsed=1)
    table = own_table(pooled([one, two], 120), 120, CONFIDENCE)
    assert list(table) == OWN_COLUMNS
    (row,) = table.to_dict("records")
    assert (row["ablations"], row["seeds"], row["collapsed"], row["steps"]) == (2, 8, 1, 120)
    test_R = np.concatenate([one.series.test_R, two.series.test_R])
    assert (row["accuracy"], row["spread"]) == pytest.approx((test_R.mean(), test_R.std(ddof=1)))
    assert row["worst_seed"] == test_R.min()
    assert row["agreement"] == 0.5
    (sample,) = pooled([two, one], 120)
    assert sample.answers.seed_R.tolist() == sample.series.accuracy.index.tolist() == list(range(8))
    np.testing.assert_array_equal(sample.series.test_R, test_R)


def test_a_seed_that_two_ablations_have_run_counts_once(tmp_path):
    (sample,) = pooled([own_of(tmp_path / "one"), own_of(tmp_path / "two", first=2)], 120)
    assert sample.answers.correct_REK.shape[0] == len(sample.series.test_R) == 6


def test_runs_of_another_length_or_other_questions_are_another_sample(tmp_path):
    long, more = own_of(tmp_path / "one"), own_of(tmp_path / "more", first=8)
    short = replace(long, series=replace(long.series, accuracy=long.series.accuracy.iloc[:, :3]))
    fewer = replace(long, answers=long.answers.only(long.answers.names[1:]))
    parts = [short, fewer, long, more]
    table = own_table(pooled(parts, 7), 7, CONFIDENCE)
    assert table[["steps", "seeds", "ablations"]].to_numpy().tolist() == [[120, 8, 2], [60, 4, 1], [120, 4, 1]]
    assert [own.steps for own in pooled(parts, 60)] == [60, 120, 120], "those as long as the pipeline's come first"


def test_arms_of_other_settings_are_none_of_them(tmp_path):
    assert own_of(tmp_path / "x", **{"grpo.beta": 0.1}) is None
    assert own_table(pooled([], 120), 120, CONFIDENCE).empty


def test_a_series_is_in_the_order_of_its_seeds(tmp_path):
    ablation = ablation_of(made_export(tmp_path / "x", SCHEDULES, first=3))
    found = series(ablation, "baseline")
    assert found.accuracy.index.tolist() == found.reward.index.tolist() == [3, 4, 5, 6]
    assert (np.diff(found.accuracy.iloc[:, -1]) > 0).all(), "as they were made"
    assert found.test_R[-1] > found.test_R[0]


def test_the_rise_is_over_new_seeds_and_new_images_at_every_budget(tmp_path):
    (sample,) = pooled([own_of(tmp_path / "one"), own_of(tmp_path / "two", first=4)], 120)
    table = rises(sample, START, made_ablations.HEADLINE, CONFIDENCE)
    assert list(table) == RISE_COLUMNS
    assert table["at"].tolist() == [HEADLINE, *map(str, BUDGETS)]
    assert set(table["seeds"]) == {8}
    whole, single = table.iloc[0], table.set_index("at").loc["2"]
    ours, theirs = sample.answers, START
    item = compare(ours.at([2]), theirs.at([2]), ours.image_E, ours.benchmark_E)
    assert single[["effect", "low", "high"]].tolist() == pytest.approx(
        [item.effect, item.interval(CONFIDENCE).low, item.interval(CONFIDENCE).high]
    )
    assert single["corrected_high"] == pytest.approx(item.interval(1 - 0.05 / len(BUDGETS)).high)
    assert whole["corrected_high"] == whole["high"]
    by_run = gains(sample, START)
    assert list(by_run) == GAIN_COLUMNS
    assert by_run.groupby("k")["gain"].mean().loc[2] == pytest.approx(single["effect"])
    assert len(by_run) == 8 * len(BUDGETS)


def test_a_rise_is_of_the_questions_that_both_were_asked_and_one_run_has_no_bounds(tmp_path):
    own = own_of(tmp_path / "one")
    first = replace(own.answers, correct_REK=own.answers.correct_REK[:1], seed_R=own.answers.seed_R[:1])
    half = START.names[::2]
    table = rises(replace(own, answers=first), START.only(half), [1], CONFIDENCE)
    assert table[["low", "high", "corrected_high"]].isna().all(axis=None)
    expected = first.only(half).seed_means([4]) - START.only(half).seed_means([4])
    assert table.set_index("at").loc["4", "effect"] == pytest.approx(expected.item())
