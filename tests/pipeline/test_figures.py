from __future__ import annotations

import numpy as np
import pytest
import torch

from grip_core.config import load
from grip_core.evaluation.headline import headline_differences
from grip_core.policy.budgets import SCHEDULES, make_schedule
from grip_core.seeds import torch_generator
from pipeline.examples import central_square, choose_examples
from pipeline.figures import draw_budgets, invented_std, order_methods, trained_range
from tests.answers import make_rows


def test_examples_need_the_image_and_alternate_between_benchmarks():
    rows = make_rows({"grip": 0.0, "warmup": 0.5})
    chosen = choose_examples(rows, 6)
    assert chosen == choose_examples(rows.sample(frac=1, random_state=0), 6)
    assert [example.split("-")[0] for example in chosen] == ["one", "two"] * 3
    blind = rows[(rows["method"] == "no_image") & rows["correct"]]["example_id"]
    assert not set(chosen) & set(blind)


def test_what_pruning_makes_of_an_example_plays_no_part():
    lucky, unlucky = (choose_examples(make_rows({"grip": share, "warmup": 0.5}), 6) for share in (1.0, 0.0))
    assert lucky == unlucky


def test_what_a_model_sees_of_a_photograph_is_its_central_square():
    wide = np.arange(3 * 6).reshape(3, 6, 1)
    assert central_square(wide)[0, :, 0].tolist() == [1, 2, 3]
    assert np.array_equal(central_square(wide.transpose(1, 0, 2)), central_square(wide).transpose(1, 0, 2))
    assert np.array_equal(central_square(wide[:, :3]), wide[:, :3])


def test_methods_are_ordered_by_the_mean():
    rows = make_rows({"grip": 0.6, "warmup": 0.5, "random": 0.1, "norm": 0.9})
    ordered = order_methods(headline_differences(rows, 0.25, 0.95))
    assert ordered["benchmark"].unique().tolist() == ["mean", "one", "two"]
    for _, part in ordered.groupby("benchmark"):
        assert part["method"].tolist() == ["random", "warmup", "norm"]


def test_drawn_budgets_are_those_of_training():
    config = load().budgets
    table = draw_budgets(config, rollouts=30, prompts=16, seed=5)
    assert table.groupby("schedule", sort=False).size().to_dict() == dict.fromkeys(SCHEDULES, 30 * 16)
    staged = make_schedule(config.model_copy(update={"schedule": "staged"}))
    k = table.loc[(table["schedule"] == "staged") & (table["rollout"] == 17), "k"]
    assert k.tolist() == staged.sample({}, 17, 30, 16, torch_generator(5, "budget", 17)).tolist()


def test_the_adaptive_schedule_follows_the_invented_signal():
    config = load().budgets.model_copy(update={"low": 1, "high": 64, "smoothing": 0.5})
    table = draw_budgets(config, rollouts=100, prompts=16, seed=0)
    k = table[table["schedule"] == "adaptive"].groupby(table["rollout"] // 25)["k"].median()
    assert k.is_monotonic_decreasing
    assert k.iloc[0] > 16
    assert k.iloc[-1] < 6


def test_the_invented_signal_peaks_lower_and_lower():
    k = torch.tensor([1, 8, 16, 64])
    for done, peak in ((0.0, 64), (0.5, 8), (1.0, 1)):
        std = invented_std(k, done, 1, 64)
        assert std[k == peak].item() == 1.0
        assert std.argmax().item() == (k == peak).nonzero().item()
    assert invented_std(k, 0.5, 1, 64)[2].item() == pytest.approx(2.718281828**-0.5)  # an octave off


def test_the_range_of_training_is_what_the_schedule_draws():
    config = load().budgets
    assert trained_range(config) == (config.low, config.high)
    assert trained_range(config.model_copy(update={"schedule": "constant", "constant": 5})) == (5, 5)
    assert trained_range(config.model_copy(update={"schedule": "mixture", "values": [4, 1, 9]})) == (1, 9)
