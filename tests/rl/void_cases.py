"""Void settings by example: pairs of arms that differ in nothing, and where the same arms differ.

A case has two arms that differ in settings which the rules call void under `inside` and which matter under `outside`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from grip_core.rl.void import Axis, Finding, settings_of, void_findings
from tests.rl.conftest import make_budgets, make_grpo

Settings = Mapping[str, Any]
BASE = settings_of(make_grpo(), make_budgets())


@dataclass(frozen=True)
class Case:
    """Arms `first` and `second` have the same keys."""

    first: Settings
    second: Settings
    inside: Settings
    outside: Settings = field(default_factory=dict)


def clips(low: float, high: float) -> Settings:
    return {"grpo.epsilon": low, "grpo.epsilon_high": high}


def loss(name: str) -> Settings:
    return {"grpo.loss_type": name}


def level(name: str) -> Settings:
    return {"grpo.importance_level": name}


OFF_POLICY = {"grpo.num_iterations": 2}
FIXED = {"budgets.schedule": "constant"}
SETS = {"grpo.distribution": "conditional_bernoulli"}
SIZES_VARY = {"grpo.distribution": "bernoulli", "grpo.loss_type": "dapo"}
CISPO_BOUND = {"grpo.epsilon_high": 1.0}

TRAINED = {
    "clipping, on-policy": Case(clips(0.01, 0.01), clips(0.3, 0.5), {}, OFF_POLICY),
    "clipping, sapo": Case(clips(0.01, 0.01), clips(0.3, 0.5), OFF_POLICY | loss("sapo"), OFF_POLICY),
    "clipping, vespo": Case(clips(0.01, 0.01), clips(0.3, 0.5), OFF_POLICY | loss("vespo"), OFF_POLICY),
    "clipping below, cispo": Case(
        {"grpo.epsilon": 0.01}, {"grpo.epsilon": 0.9}, OFF_POLICY | loss("cispo") | CISPO_BOUND, OFF_POLICY
    ),
    "clipping above, cispo": Case(CISPO_BOUND, {"grpo.epsilon_high": 1.3}, loss("cispo"), OFF_POLICY | loss("cispo")),
    "level, on-policy": Case(level("token"), level("sequence"), {}, OFF_POLICY),
    "level, on-policy, sapo": Case(level("token"), level("sequence"), loss("sapo"), OFF_POLICY | loss("sapo")),
    "level, sets": Case(level("token"), level("sequence"), OFF_POLICY | SETS, OFF_POLICY),
    "level, one pick": Case(
        level("token"), level("sequence"), OFF_POLICY | FIXED | {"budgets.constant": 1}, OFF_POLICY | FIXED
    ),
    "sapo": Case(loss("grpo"), loss("sapo"), {}, OFF_POLICY),
    "vespo": Case(loss("dapo"), loss("vespo"), {}, OFF_POLICY),
    "cispo": Case(loss("bnpo"), loss("cispo"), CISPO_BOUND, OFF_POLICY | CISPO_BOUND),
    "means over picks and selections": Case(loss("grpo"), loss("dapo"), OFF_POLICY | FIXED, OFF_POLICY),
    "means, linear": Case(loss("grpo"), loss("bnpo"), {"budgets.schedule": "linear"}, {}),
    "means, cosine": Case(loss("grpo"), loss("bnpo"), {"budgets.schedule": "cosine"}, {"budgets.schedule": "staged"}),
    "means, one size": Case(loss("grpo"), loss("bnpo"), FIXED, {}),
    "means, all on-policy": Case(loss("sapo"), loss("vespo"), FIXED, FIXED | OFF_POLICY),
    "dr_grpo": Case(loss("grpo"), loss("dr_grpo"), OFF_POLICY | FIXED | {"budgets.constant": 12}, OFF_POLICY | FIXED),
    "luspo": Case(
        loss("grpo"), loss("luspo"), level("sequence") | FIXED | {"budgets.constant": 1}, level("sequence") | FIXED
    ),
    "estimator": Case({"grpo.kl_estimator": "k1"}, {"grpo.kl_estimator": "k3"}, {"grpo.beta": 0.0}, {"grpo.beta": 1.0}),
    "placement": Case(
        {"grpo.kl_placement": "loss"},
        {"grpo.kl_placement": "reward"},
        {"grpo.beta": 0.0, "grpo.kl_estimator": "k1"},
        {"grpo.kl_estimator": "k1"},
    ),
    "batch of one prompt": Case(
        {"grpo.scale_rewards": "group"}, {"grpo.scale_rewards": "batch"}, {"grpo.prompts_per_step": 1}
    ),
    "floor, unscaled": Case({"grpo.std_floor": 0.0}, {"grpo.std_floor": 3.0}, {"grpo.scale_rewards": "none"}),
    "floor, dead below": Case({"grpo.std_floor": 0.0}, {"grpo.std_floor": 0.5}, {"grpo.min_std": 0.5}),
    "penalty": Case({"grpo.budget_penalty": 0.0}, {"grpo.budget_penalty": 2.0}, {}, SIZES_VARY),
    "range": Case(
        {"budgets.low": 1, "budgets.high": 12},
        {"budgets.low": 2, "budgets.high": 5},
        FIXED,
        {"budgets.schedule": "staged"},
    ),
}
"""Arms whose policies are compared after training."""


ONE = {"budgets.values": [5], "budgets.weights": [1.0], "budgets.constant": 5}
ADAPTIVE = {"budgets.schedule": "adaptive"}
STAGED = {"budgets.schedule": "staged"}
DOWN, UP = {"budgets.direction": "high_to_low"}, {"budgets.direction": "low_to_high"}

DRAWN = {
    **{
        f"{name}, range of one": Case(
            {"budgets.schedule": "uniform"}, {"budgets.schedule": name}, ONE | {"budgets.low": 5, "budgets.high": 5}
        )
        for name in ("constant", "log_uniform", "linear", "cosine", "staged", "mixture", "adaptive")
    },
    "one weight": Case(FIXED, {"budgets.schedule": "mixture"}, {"budgets.weights": [0.0, 1.0, 0.0]}),
    "one stage": Case({"budgets.schedule": "log_uniform"}, STAGED, {"budgets.stages": 1}),
    "range": Case(
        {"budgets.low": 1, "budgets.high": 12},
        {"budgets.low": 1, "budgets.high": 13},
        {"budgets.schedule": "mixture"},
        {"budgets.schedule": "uniform"},
    ),
    "constant": Case({"budgets.constant": 3}, {"budgets.constant": 4}, {"budgets.schedule": "uniform"}, FIXED),
    **{
        f"direction, {name}": Case(DOWN, UP, {"budgets.schedule": "uniform"}, {"budgets.schedule": name})
        for name in ("linear", "cosine", "staged")
    },
    "direction, range of one": Case(DOWN, UP, STAGED | {"budgets.low": 12}, STAGED),
    "direction, one stage": Case(DOWN, UP, STAGED | {"budgets.stages": 1}, STAGED),
    "stages": Case({"budgets.stages": 2}, {"budgets.stages": 3}, {"budgets.schedule": "linear"}, STAGED),
    **{
        f"{name}, {where}": Case({f"budgets.{name}": first}, {f"budgets.{name}": second}, inside, ADAPTIVE)
        for where, inside in (
            ("log_uniform", {}),
            ("range of one", ADAPTIVE | {"budgets.low": 12}),
            ("all exploration", ADAPTIVE | {"budgets.exploration": 1.0}),
            ("one bin", ADAPTIVE | {"budgets.bins": 1}),
        )
        for name, first, second in (("bins", 2, 4), ("smoothing", 0.0, 0.9), ("exploration", 0.1, 0.6))
        if (name, where) not in (("exploration", "all exploration"), ("bins", "one bin"))
    },
}
"""Arms whose budgets are compared."""

CLIPPED = {
    "high": Case(
        {"grpo.reward.clip_high": 1.0},
        {"grpo.reward.clip_high": 2.0},
        {"grpo.reward.correct": 1.0, "grpo.reward.fidelity": 1.0},
        {"grpo.reward.gain": 1.0},
    ),
    "low": Case(
        {"grpo.reward.clip_low": -1.0},
        {"grpo.reward.clip_low": 0.0},
        {"grpo.reward.correct": 1.0, "grpo.reward.log_prob": 0.0},
        {},
    ),
}
"""Arms whose rewards are compared."""

COLLAPSE = {"entropy": 0.999, "kl": 0.001, "accuracy_drop": 0.0, "evaluations": 1}
WATCHED = {
    "collapse": Case(
        {f"grpo.collapse.{name}": BASE[f"grpo.collapse.{name}"] for name in COLLAPSE},
        {f"grpo.collapse.{name}": value for name, value in COLLAPSE.items()},
        {},
        {"grpo.collapse.stop": True},
    ),
    "evaluations": Case(
        {"grpo.evaluate_every": 4},
        {"grpo.evaluate_every": 2},
        {},
        {"grpo.collapse.stop": True, "grpo.collapse.accuracy_drop": 0.0, "grpo.collapse.evaluations": 1},
    ),
    "checkpoints": Case({"grpo.checkpoint_every": 2}, {"grpo.checkpoint_every": 4}, {}),
}
"""Arms whose whole runs are compared."""


def named(cases: Mapping[str, Case]):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def findings(space: Mapping[str, tuple | Axis], **changes: Any) -> list[Finding]:
    axes = {key: axis if isinstance(axis, Axis) else Axis(axis) for key, axis in space.items()}
    return void_findings({**BASE, **changes}, axes)


def refused(space: Mapping[str, tuple | Axis], changes: Settings) -> bool:
    return any(finding.severity == "refuse" for finding in findings(space, **changes))
