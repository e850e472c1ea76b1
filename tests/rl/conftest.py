"""A tiny world to train in: random images of a random LLaVA, cached features, a short configuration."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PrinterCallback

from grip_core.config import BudgetConfig, CollapseConfig, FilterConfig, GrpoConfig, RewardConfig, ScorerConfig
from grip_core.policy.scorer import Scorer
from grip_core.rl.train import Task, build_trainer
from grip_core.rl.validation import Validation
from grip_core.rl.warmup import build_scorer
from grip_core.vlm.features import FeatureStore, Shard
from tests.families import ANSWERS, QUESTIONS

IMAGES = 6


def make_budgets(**changes) -> BudgetConfig:
    settings = {
        "schedule": "log_uniform",
        "low": 1,
        "high": 12,
        "constant": 3,
        "direction": "high_to_low",
        "stages": 2,
        "values": [1, 3, 12],
        "weights": [1.0, 2.0, 1.0],
        "bins": 3,
        "smoothing": 0.5,
        "exploration": 0.3,
    }
    return BudgetConfig(**settings | changes)


BUDGETS = make_budgets()


@pytest.fixture(scope="session")
def store(llava) -> FeatureStore:
    return make_store(llava)


@pytest.fixture
def warmup_scorer() -> Scorer:
    return make_scorer()


@pytest.fixture
def grpo() -> GrpoConfig:
    return make_grpo()


@pytest.fixture(scope="session")
def validation(llava, store) -> Validation:
    return Validation(llava.vlm, store, [1, 4])


@pytest.fixture(scope="module")
def quick():
    """The models are tiny: threads cost more than they save, and so do the collections that transformers calls for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def build(llava, store, tmp_path_factory):
    """The trainer of these settings."""

    def built(changes: Mapping[str, Any]):
        grpo, budgets = configs(changes)
        trainer = build_trainer(grpo, budgets, 3, Task(llava.vlm, store, make_scorer()), tmp_path_factory.mktemp("run"))
        trainer.remove_callback(PrinterCallback)
        return trainer

    return built


def make_store(llava) -> FeatureStore:
    """Eighteen examples: every image with every question."""
    random = np.random.RandomState(0)
    features = llava.vlm.visual_features(
        [random.randint(256, size=(144, 144, 3), dtype=np.uint8) for _ in range(IMAGES)]
    )
    rows = [
        {"image_row": image, "question": QUESTIONS[i], "answer": ANSWERS[i], "benchmark": f"b{i}"}
        for image in range(IMAGES)
        for i in range(len(QUESTIONS))
    ]
    table = pd.DataFrame(rows).assign(shard=0, full_correct=True, blind_correct=False, blind_log_prob=-3.0)
    table.loc[0, "full_correct"] = False
    table.loc[1, "blind_correct"] = True
    return FeatureStore(table, [Shard.of([features])], *features.visual_BND.shape[1:])


def make_scorer() -> Scorer:
    """A scorer whose head is not zero, as a warmed-up one's."""
    scorer = build_scorer(ScorerConfig(width=16, layers=1, heads=2), 32, seed=0)
    scorer.score.weight.data = torch.linspace(-0.5, 0.5, 16)[None].clone()
    return scorer.eval()


def make_grpo(**changes) -> GrpoConfig:
    settings = {
        "seeds": [0],
        "steps": 8,
        "prompts_per_step": 4,
        "group_size": 3,
        "num_iterations": 1,
        "start": "warmup",
        "distribution": "plackett_luce",
        "budget_penalty": 1.0,
        "learning_rate": 0.01,
        "lr_schedule": "linear",
        "lr_warmup_steps": 2,
        "beta": 0.05,
        "kl_estimator": "k3",
        "kl_placement": "loss",
        "entropy_coef": 0.0,
        "loss_type": "grpo",
        "importance_level": "token",
        "epsilon": 0.2,
        "epsilon_high": 0.2,
        "max_grad_norm": 1.0,
        "baseline": "mean",
        "scale_rewards": "group",
        "std_floor": 0.0,
        "min_std": 0.0,
        "dead_groups": "keep",
        "reward": make_reward(log_prob=1.0),
        "filter": FilterConfig(answered_without_image=False, failed_with_all_tokens=False),
        "evaluate_every": 4,
        "validation_questions": 6,
        "checkpoint_every": 2,
        "collapse": CollapseConfig(entropy=0.0, kl=100.0, accuracy_drop=1.0, evaluations=2, stop=False),
    }
    return GrpoConfig(**settings | changes)


def make_reward(**weights: float) -> RewardConfig:
    settings = {"log_prob": 0.0, "correct": 0.0, "fidelity": 0.0, "gain": 0.0, "clip_low": -50.0, "clip_high": 50.0}
    return RewardConfig(**settings | weights)


def configs(changes: Mapping[str, Any]) -> tuple[GrpoConfig, BudgetConfig]:
    """The tests' settings with others in their places, checked by the schema."""
    raw: dict[str, Any] = {"grpo": make_grpo().model_dump(), "budgets": make_budgets().model_dump()}
    for key, value in changes.items():
        *sections, name = key.split(".")
        functools.reduce(dict.__getitem__, sections, raw)[name] = value
    return GrpoConfig(**raw["grpo"]), BudgetConfig(**raw["budgets"])
