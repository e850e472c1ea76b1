"""Budgets of training and of the headline."""

from __future__ import annotations

import copy
import json
import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from grip_core.config import BudgetConfig
from grip_core.errors import UserError
from grip_core.policy.budgets import SCHEDULES, headline_budgets, log_uniform, make_schedule, split
from grip_core.seeds import torch_generator

DRAWS, ROLLOUTS = 20_000, 12
CONFIG = BudgetConfig(
    schedule="constant",
    low=1,
    high=26,  # three parts of equal length in log k: 1 to 2, 3 to 8, 9 to 26
    constant=7,
    direction="high_to_low",
    stages=3,
    values=[2, 5, 9],
    weights=[1.0, 0.0, 3.0],
    bins=3,
    smoothing=0.75,
    exploration=0.2,
)
PARTS = ((1, 2), (3, 8), (9, 26))
UNEQUAL = {"std": [0.3, None, 0.1]}  # the middle bin, not seen yet, counts as the best: 3, 3 and 1 of 7


def config_of(schedule: str, **changes) -> BudgetConfig:
    return BudgetConfig(**CONFIG.model_dump() | {"schedule": schedule} | changes)


def draw(config: BudgetConfig, step: int = 0, total: int = ROLLOUTS, count: int = DRAWS, state=None) -> torch.Tensor:
    schedule = make_schedule(config)
    state = schedule.initial() if state is None else state
    return schedule.sample(state, step, total, count, torch_generator(0, "budget", step))


def log_uniform_shares(low: int, high: int) -> dict[int, float]:
    return {k: math.log((k + 1) / k) / math.log((high + 1) / low) for k in range(low, high + 1)}


def blend(*parts: tuple[float, dict[int, float]]) -> dict[int, float]:
    shares: dict[int, float] = {}
    for weight, part in parts:
        for k, share in part.items():
            shares[k] = shares.get(k, 0.0) + weight * share
    return shares


def signal(k_B: torch.Tensor) -> torch.Tensor:
    """A reward std that is different at every k."""
    return torch.sin(k_B.float()).abs()


EXPLORED = (0.2, log_uniform_shares(1, 26))
UNEVEN = {"high": 4, "bins": 2, "exploration": 0.0}  # bins 1 and 2 to 4: no whole budget halves log 5
EVENLY = blend((0.5, log_uniform_shares(1, 1)), (0.5, log_uniform_shares(2, 4)))
DEFINITIONS = {
    "uniform": (config_of("uniform"), dict.fromkeys(range(1, 27), 1 / 26), None),
    "log_uniform": (config_of("log_uniform"), log_uniform_shares(1, 26), None),
    "mixture": (config_of("mixture"), {2: 0.25, 9: 0.75}, None),
    "adaptive": (
        config_of("adaptive"),
        blend(EXPLORED, *zip([0.8 * 3 / 7, 0.8 * 3 / 7, 0.8 / 7], [log_uniform_shares(*part) for part in PARTS])),
        UNEQUAL,
    ),
    "adaptive, nothing seen": (config_of("adaptive", **UNEVEN), EVENLY, None),
    "adaptive, no signal": (config_of("adaptive", **UNEVEN), EVENLY, {"std": [0.0, None]}),
}


def matches(drawn: torch.Tensor, shares: dict[int, float]) -> bool:
    """Whether a chi-square test lets the draws pass for those of `shares`."""
    found = torch.bincount(drawn, minlength=27)
    assert found[list(shares)].sum() == len(drawn)  # nothing else was drawn
    return chisquare(found[list(shares)].numpy(), len(drawn) * np.array(list(shares.values()))).pvalue > 0.01


@pytest.mark.parametrize(("config", "shares", "state"), DEFINITIONS.values(), ids=DEFINITIONS)
def test_budgets_come_as_often_as_they_should(config, shares, state):
    assert sum(shares.values()) == pytest.approx(1.0)
    assert matches(draw(config, state=state), shares)


def test_the_schema_names_the_schedules():
    assert tuple(SCHEDULES) == get_args(BudgetConfig.model_fields["schedule"].annotation)


def test_constant():
    assert draw(config_of("constant")).unique().tolist() == [7]


def test_log_uniform_draws_what_stored_results_were_trained_with():
    drawn = draw(config_of("log_uniform", high=36), count=16)
    assert drawn.tolist() == [2, 17, 5, 5, 1, 26, 1, 26, 1, 3, 5, 12, 6, 2, 3, 3]
    assert drawn.equal(log_uniform(1, 36, 16, torch_generator(0, "budget", 0)))


@pytest.mark.parametrize("direction", ["high_to_low", "low_to_high"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_annealing_goes_from_end_to_end_and_never_back(schedule, direction):
    config = config_of(schedule, direction=direction)
    for total in (2, 3, 101, 200):
        path = torch.stack([draw(config, step, total, count=4) for step in range(total)])
        assert (path == path[:, :1]).all()  # one budget a rollout
        ends = [1, 26] if direction == "low_to_high" else [26, 1]
        assert path[[0, -1], 0].tolist() == ends
        assert (path[:, 0].diff() * (ends[1] - ends[0]) >= 0).all()
    assert draw(config, 0, 1, count=1).tolist() == ends[:1]


def test_the_shapes_of_annealing():
    linear = [draw(config_of("linear", high=5), step, 9, 1).item() for step in range(9)]
    assert linear == [5, 5, 4, 4, 3, 3, 2, 2, 1]  # 5, 4.5, 4, ...: halves go up
    cosine = [draw(config_of("cosine", high=101), step, 7, 1).item() for step in range(7)]
    assert cosine == [101, 94, 76, 51, 26, 8, 1]  # 51 + 50 cos(step 30 degrees)


@pytest.mark.parametrize(
    ("direction", "opened"),
    [("high_to_low", [(9, 26), (3, 26), (1, 26)]), ("low_to_high", [(1, 2), (1, 8), (1, 26)])],
)
def test_stages_open_the_range_part_by_part(direction, opened):
    config = config_of("staged", direction=direction)
    for stage, (low, high) in enumerate(opened):
        for step in (4 * stage, 4 * stage + 3):  # the first and the last of four rollouts
            assert matches(draw(config, step), log_uniform_shares(low, high))


@pytest.mark.parametrize(
    ("low", "high", "parts", "ranges"),
    [
        (1, 26, 3, PARTS),
        (1, 36, 5, ((1, 1), (2, 3), (4, 8), (9, 17), (18, 36))),
        (1, 2, 5, ((1, 1), (2, 2))),
        (5, 5, 4, ((5, 5),)),
        (3, 90, 1, ((3, 90),)),
    ],
)
def test_ranges_are_cut_in_parts_equal_in_log_k(low, high, parts, ranges):
    assert split(low, high, parts) == ranges


def test_parts_cover_the_range_once():
    for low in range(1, 20):
        for parts in range(1, 9):
            ranges = split(low, 20, parts)
            assert [k for first, last in ranges for k in range(first, last + 1)] == list(range(low, 21))
            assert len(ranges) <= parts
            assert all(first <= last for first, last in ranges)


def test_adaptive_remembers_a_running_mean_a_bin():
    schedule = make_schedule(config_of("adaptive"))
    assert schedule.initial() == {"std": [None, None, None]}
    once = schedule.update(schedule.initial(), torch.tensor([1, 2, 8]), torch.tensor([0.25, 0.75, 2.0]))
    assert once == {"std": [0.5, 2.0, None]}
    twice = schedule.update(once, torch.tensor([26, 9, 3]), torch.tensor([1.0, 0.0, 1.0]))
    assert twice == {"std": [0.5, 0.75 * 2.0 + 0.25 * 1.0, 0.5]}


def test_adaptive_moves_to_the_signal_wherever_it_goes_and_still_explores():
    schedule = make_schedule(config_of("adaptive"))
    state = schedule.initial()
    for part in (2, 0):
        low, high = PARTS[part]
        for step in range(80):
            k_B = schedule.sample(state, step, 160, 16, torch_generator(part, "budget", step))
            state = schedule.update(state, k_B, ((low <= k_B) & (k_B <= high)).float())
        drawn = draw(config_of("adaptive"), state=state)
        inside = ((low <= drawn) & (drawn <= high)).double().mean().item()
        assert inside == pytest.approx(0.8 + 0.2 / 3, abs=0.01)  # a third of what is explored lies there, too
        assert set(drawn.tolist()) == set(range(1, 27))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_resumed_from_json_draws_what_an_uninterrupted_one_draws(schedule):
    schedule = make_schedule(config_of(schedule))

    def run(restored):
        state, drawn = schedule.initial(), []
        for step in range(ROLLOUTS):
            k_B = schedule.sample(state, step, ROLLOUTS, 16, torch_generator(3, "budget", step))
            state = restored(schedule.update(state, k_B, signal(k_B)))
            drawn.append(k_B.tolist())
        return state, drawn

    assert run(lambda state: json.loads(json.dumps(state))) == run(lambda state: state)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_pure(schedule):
    schedule = make_schedule(config_of(schedule))
    state = schedule.initial()
    for step in range(3):
        before = copy.deepcopy(state)
        k_B = schedule.sample(state, step, ROLLOUTS, 16, torch_generator(3, "budget", step))
        assert k_B.dtype == torch.int64
        assert k_B.equal(schedule.sample(state, step, ROLLOUTS, 16, torch_generator(3, "budget", step)))
        after = schedule.update(state, k_B, signal(k_B))
        assert after == schedule.update(state, k_B, signal(k_B))
        assert state == before
        state = after


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_range_of_one_budget(schedule):
    config = config_of(schedule, low=5, high=5, constant=5, values=[5], weights=[2.0])
    schedule = make_schedule(config)
    state = schedule.update(schedule.initial(), torch.tensor([5, 5]), torch.tensor([0.0, 0.5]))
    for step in range(ROLLOUTS):
        assert schedule.sample(state, step, ROLLOUTS, 8, torch_generator(0, "budget", step)).tolist() == [5] * 8


def test_headline_budgets_include_the_share_itself():
    assert headline_budgets([1, 14, 15, 29], 0.29, 100) == [1, 14, 15, 29]
    assert headline_budgets([1, 14, 15], 0.1, 144) == [1, 14]
    with pytest.raises(UserError, match="add a smaller one"):
        headline_budgets([20], 0.1, 144)
