"""Runs of the pipeline's own settings are one sample, whichever ablations they are of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grip_core.evaluation.ablation_training import series
from grip_core.evaluation.own_settings import OWN_COLUMNS, own_series, own_table
from tests.evaluation.made_ablations import CONFIDENCE, SCHEDULES, Made, ablation_of, made_export


def own_of(folder, first: int = 0, collapsed: int = 0, **settings):
    arms = {
        "baseline": Made({"schedule": "log_uniform"}, collapsed=collapsed, settings=settings),
        "schedule=only_2": SCHEDULES["schedule=only_2"],
    }
    return own_series(ablation_of(made_export(folder, arms, first=first)))


def test_ablations_of_other_seeds_add_up(tmp_path):
    one, two = own_of(tmp_path / "one"), own_of(tmp_path / "two", first=4, collapsed=1)
    table = own_table([one, two], CONFIDENCE)
    assert list(table) == OWN_COLUMNS
    (row,) = table.to_dict("records")
    assert (row["ablations"], row["seeds"], row["collapsed"], row["steps"]) == (2, 8, 1, 120)
    test_R = np.concatenate([one.test_R, two.test_R])
    assert (row["accuracy"], row["spread"]) == pytest.approx((test_R.mean(), test_R.std(ddof=1)))
    assert row["worst_seed"] == test_R.min()
    assert row["agreement"] == 0.5
    assert own_table([two, one], CONFIDENCE).drop(columns="collapse_rate").equals(table.drop(columns="collapse_rate"))


def test_a_seed_that_two_ablations_have_run_counts_once(tmp_path):
    (row,) = own_table([own_of(tmp_path / "one"), own_of(tmp_path / "two", first=2)], CONFIDENCE).to_dict("records")
    assert row["seeds"] == 6


def test_runs_of_another_length_are_another_sample(tmp_path):
    long, more = own_of(tmp_path / "one"), own_of(tmp_path / "more", first=8)
    short = replace(long, accuracy=long.accuracy.iloc[:, :3], reward=long.reward.iloc[:, :60])
    table = own_table([short, long, more], CONFIDENCE)
    assert table[["steps", "seeds", "ablations"]].to_numpy().tolist() == [[120, 8, 2], [60, 4, 1]]


def test_arms_of_other_settings_are_none_of_them(tmp_path):
    assert own_of(tmp_path / "x", **{"grpo.beta": 0.1}) is None
    assert own_table([], CONFIDENCE).empty


def test_a_series_is_in_the_order_of_its_seeds(tmp_path):
    ablation = ablation_of(made_export(tmp_path / "x", SCHEDULES, first=3))
    found = series(ablation, "baseline")
    assert found.accuracy.index.tolist() == found.reward.index.tolist() == [3, 4, 5, 6]
    assert (np.diff(found.accuracy.iloc[:, -1]) > 0).all(), "as they were made"
    assert found.test_R[-1] > found.test_R[0]
