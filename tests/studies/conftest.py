"""A small study of random walks, which need no model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from grip_core.config import Params, load, parse
from studies.definition import Definition

ROOT = Path(__file__).resolve().parents[2]

TOY: dict[str, Any] = {
    "name": "toy",
    "space": {
        "grpo.learning_rate": {"low": 0.001, "high": 0.9, "log": True},
        "grpo.num_iterations": {"choices": [1, 2]},
    },
    "params": {"grpo.beta": 0.005},
    "trainable": "tests.studies.toys:Walk",
    "objectives": [{"metric": "accuracy", "direction": "maximize"}],
    "sampler": {"name": "tpe", "startup_trials": 4},
    "pruner": {"name": "none"},
    "seeds": [1, 2],
    "compute": {"selections": 5120, "rungs": 5},  # 10 rollouts of 16 x 32
    "budget": {"trials": 6},
    "promote": {"best": 2, "seeds": [11, 12, 13]},
    "lease": {"beat": 0.25, "grace": 2.0},
}


def toy(**changes: Any) -> Definition:
    """The toy study with other top-level entries."""
    return parse(Definition, copy.deepcopy(TOY) | changes, "toy.yaml")


@pytest.fixture(scope="session")
def params() -> Params:
    return load(ROOT / "params.yaml")
