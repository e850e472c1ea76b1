"""The tiny world of tests/rl, trained in by a relaxation."""

from __future__ import annotations

import pytest

from grip_core.config import FilterConfig, SupervisedConfig
from tests.rl.conftest import store, validation, warmup_scorer

__all__ = ["store", "validation", "warmup_scorer"]
METHODS = ["gumbel", "soft_topk", "diffprune", "distill"]


@pytest.fixture(params=METHODS)
def method(request) -> str:
    return request.param


def make_supervised(**changes) -> SupervisedConfig:
    settings = {
        "method": "gumbel",
        "steps": 6,
        "prompts_per_step": 4,
        "learning_rate": 0.01,
        "lr_schedule": "linear",
        "lr_warmup_steps": 2,
        "max_grad_norm": 1.0,
        "temperature": 1.0,
        "bce_low": 0.1,
        "bce_high": 2.0,
        "sharpness": 2.0,
        "filter": FilterConfig(answered_without_image=False, failed_with_all_tokens=False),
        "evaluate_every": 3,
        "checkpoint_every": 2,
    }
    return SupervisedConfig(**settings | changes)
