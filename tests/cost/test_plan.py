"""The memory plan against what there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from grip_core.config import load
from grip_core.cost.plan import ANSWER, TEXT, Work, in_words, memory_plan
from grip_core.vlm.context import Selection
from grip_core.vlm.load import load_vlm
from tests.families import random_images

ROOT = Path(__file__).parents[2]
IMAGE = 144 * 128
"""Numbers."""
WORK = Work(images=3000, tokens=144, image_size=IMAGE, budget=36, validation=300, whole=0)


@pytest.fixture(scope="module")
def params():
    found = load(ROOT / "params.yaml")
    return found.model_copy(update={"vlm": found.vlm.model_copy(update={"path": str(ROOT / "models" / "embedded")})})


def test_weights_and_cache_are_counted(params):
    vlm = load_vlm(params.vlm.path, "original")
    plan = memory_plan(params.vlm, params.grpo, WORK)
    assert plan.weights == 4 * sum(parameter.numel() for parameter in vlm.model.parameters())
    assert plan.cache == 3000 * 144 * 128 * 4
    assert plan.prompts == IMAGE * 4 * (2 * params.grpo.prompts_per_step + 300)
    half = params.vlm.model_copy(update={"dtype": "bfloat16"})
    assert memory_plan(half, params.grpo, WORK).weights == plan.weights // 2
    quarter = params.vlm.model_copy(update={"quantization": "8bit"})
    assert memory_plan(quarter, params.grpo, WORK).weights == plan.weights // 4


def peak_bytes(run: Callable[[], object]) -> int:
    """The most that tensors take while it runs, beyond those that were there."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize("budget", [36, 144])
def test_a_forward_takes_what_is_planned(params, budget):
    vlm = load_vlm(params.vlm.path, "original")
    images, group = random_images([(144, 144)] * 4), vlm.rows_per_forward // 4
    short = vlm.encode(images[:1], ["red"], [""]).input_ids_BT.shape[1] - 144
    context = vlm.encode(
        images, [" ".join(["red"] * (1 + TEXT - short - ANSWER))] * 4, [" ".join(["red"] * ANSWER)] * 4
    )
    assert context.input_ids_BT.shape[1] + ANSWER == TEXT + 144
    kept_RK = torch.arange(budget).repeat(4 * group, 1)
    prompt_R = torch.arange(4).repeat_interleave(group)
    selection = Selection(kept_RK, torch.ones_like(kept_RK, dtype=torch.bool), prompt_R)
    with torch.inference_mode():
        peak = peak_bytes(lambda: vlm.answer_scores(context, selection))
    assert 0.7 < peak / memory_plan(params.vlm, params.grpo, replace(WORK, budget=budget)).forward < 1.1


def test_a_forward_grows_with_the_budget_and_is_shared_out(params):
    plan = memory_plan(params.vlm, params.grpo, WORK)
    assert memory_plan(params.vlm, params.grpo, replace(WORK, budget=144)).forward > plan.forward
    eight = params.vlm.model_copy(update={"processes": 8})
    assert memory_plan(eight, params.grpo, WORK).forward == pytest.approx(plan.forward / 2, rel=0.01)


def test_prompts_with_every_token_may_be_the_largest(params):
    none, few, many = (
        memory_plan(params.vlm, params.grpo, replace(WORK, whole=prompts)).forward for prompts in (0, 16, 125)
    )
    assert none == few < many / 1.5


def test_the_plan_in_words(params):
    plan = memory_plan(params.vlm, params.grpo, replace(WORK, images=3630))
    assert in_words(plan, 1, 100.0).startswith("memory: about 0.11 GB (")
    assert "0.27 GB of at most 100 GB" in in_words(plan, 1, 100.0)
    assert " on each of 4 devices " in in_words(plan, 4, 100.0)
