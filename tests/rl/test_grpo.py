"""GRPO on TRL: what TRL's public code gets wrong, and the loss against one written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grip_core.rl.advantages import group_advantages
from grip_core.rl.scoring import score_selections
from grip_core.rl.train import Task, build_trainer, carries_signal, make_plan
from tests.rl.conftest import BUDGETS


@pytest.fixture
def trainer(grpo, warmup_scorer, llava, store, tmp_path):
    return build_trainer(grpo, BUDGETS, 3, Task(llava.vlm, store, warmup_scorer), tmp_path)


def rollout(trainer):
    """One rollout's inputs, as TRL makes them for its first step."""
    group = trainer.num_generations
    rows = [{"prompt": str(place)} for place in range(trainer.grip.prompts_per_step) for _ in range(group)]
    trainer.model.train()
    return trainer._generate_and_score_completions(rows)


def scored(trainer, inputs, model):
    return trainer._log_probs(model, inputs)


def move(trainer, factor):
    """What an update does: the policy's weights change, and the rollout's own scores are spent."""
    with torch.no_grad():
        trainer.model.score.weight.mul_(factor)
    trainer.rollout.scores_BN = None


def test_the_kl_is_zero_before_the_first_update(trainer):
    inputs = rollout(trainer)
    current = scored(trainer, inputs, trainer.model)
    assert torch.equal(current.detach(), inputs["ref_per_token_logps"])


def test_the_first_update_reuses_the_rollouts_scores_and_later_ones_do_not(trainer):
    inputs = rollout(trainer)
    slopes = []
    for _ in range(2):
        log_probs = scored(trainer, inputs, trainer.model)
        slopes.append(torch.autograd.grad(log_probs.sum(), trainer.model.score.weight)[0])
        assert trainer.rollout.scores_BN is None
    assert torch.equal(*slopes)
    move(trainer, 1.5)
    assert not torch.allclose(scored(trainer, inputs, trainer.model), log_probs)


def test_the_reference_stays_when_the_policy_moves(trainer):
    inputs = rollout(trainer)
    move(trainer, 1.5)
    assert torch.equal(scored(trainer, inputs, trainer.ref_model), inputs["ref_per_token_logps"])
    assert not torch.allclose(scored(trainer, inputs, trainer.model), inputs["ref_per_token_logps"])


def test_budgets_are_the_plans_and_actions_are_distinct(trainer):
    inputs = rollout(trainer)
    lengths = inputs["completion_mask"].sum(1).view(-1, trainer.num_generations)
    assert (lengths == trainer.plan.k[: len(lengths)][:, None]).all()
    for row, mask in zip(inputs["completion_ids"], inputs["completion_mask"], strict=True):
        picks = row[mask.bool()].tolist()
        assert len(set(picks)) == len(picks)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_loss_is_grpos_written_out(trainer, beta):
    """Double loop over groups and picks, float64: clipped surrogate and k3, averaged per selection, then over
    selections."""
    trainer.beta = beta
    trainer.current_gradient_accumulation_steps = 1  # set by transformers' loop
    inputs = rollout(trainer)
    move(trainer, 1.3)
    old = inputs["ref_per_token_logps"] if beta else scored(trainer, inputs, trainer.ref_model).detach()
    inputs["old_per_token_logps"] = old
    loss = trainer._compute_loss(trainer.model, inputs)

    scores_BN = trainer.model(trainer.rollout.context, trainer.rollout.k_B).double()
    total = 0.0
    for row in range(len(old)):
        b = int(inputs["prompt_ids"][row, 0])
        k = int(inputs["completion_mask"][row].sum())
        picks = inputs["completion_ids"][row, :k]
        left = torch.ones(scores_BN.shape[1], dtype=torch.bool)
        surrogate = 0.0
        for j, pick in enumerate(picks.tolist()):
            log_prob = scores_BN[b, pick] - scores_BN[b][left].logsumexp(0)
            ratio = (log_prob - old[row, j].double()).exp()
            advantage = inputs["advantages"][row].double()
            clipped = ratio.clamp(1 - trainer.grip.epsilon, 1 + trainer.grip.epsilon)
            term = torch.minimum(ratio * advantage, clipped * advantage)
            difference = old[row, j].double() - log_prob
            surrogate = surrogate + term - beta * (difference.exp() - difference - 1)
            left = left.clone()
            left[pick] = False
        total = total - surrogate / k
    expected = total / len(old)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    (slope,) = torch.autograd.grad(loss, trainer.model.score.weight, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, trainer.model.score.weight)
    assert torch.allclose(slope, wanted.float(), atol=1e-4)


def test_a_gradient_of_full_size_has_the_same_bits_every_time(grpo, warmup_scorer, llava, store, tmp_path):
    """Large enough for several threads, whose sums must not depend on which comes first."""
    config = grpo.model_copy(update={"prompts_per_step": 16, "group_size": 32})
    trainer = build_trainer(config, BUDGETS, 3, Task(llava.vlm, store, warmup_scorer), tmp_path)
    inputs = rollout(trainer)
    # As TRL hands them over: the rows of a prompt lie apart.
    order = torch.randperm(len(inputs["prompt_ids"]), generator=torch.Generator().manual_seed(0))
    inputs = {name: value[order] if value.ndim else value for name, value in inputs.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = set()
        for _ in range(20):
            weighted = scored(trainer, inputs, trainer.model) * inputs["advantages"][:, None]
            slopes = torch.autograd.grad(weighted.sum(), list(trainer.model.parameters()))
            found.add(b"".join(slope.numpy().tobytes() for slope in slopes))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_advantages_come_from_the_rewards_of_their_own_group(trainer, llava):
    """A row's reward is what the VLM gives for that row's own selection, scored alone."""
    inputs = rollout(trainer)
    rewards = []
    for row, picks in enumerate(inputs["completion_ids"]):
        k = int(inputs["completion_mask"][row].sum())
        context = trainer.rollout.context.rows(inputs["prompt_ids"][row])
        alone = score_selections(llava.vlm, context, picks[None, None, :k], torch.ones(1, k, dtype=torch.bool))
        rewards.append(alone.log_prob_R[0])
    rewards_BG = torch.stack(rewards).view(-1, trainer.num_generations)
    assert rewards_BG.std(1).min() > 1e-3
    wanted = group_advantages(rewards_BG, "group", 0.0).flatten()
    assert torch.allclose(inputs["advantages"], wanted, atol=0.02)


def test_signal_filters(store, grpo):
    drop_failed = grpo.filter.model_copy(update={"failed_with_all_tokens": True})
    drop_both = drop_failed.model_copy(update={"answered_without_image": True})
    assert carries_signal(store, grpo.filter).all()
    assert carries_signal(store, drop_failed)[:3].tolist() == [False, True, True]
    assert carries_signal(store, drop_both)[:3].tolist() == [False, False, True]


def test_the_plan_covers_every_example_before_any_comes_twice(grpo, store):
    plan = make_plan(grpo, BUDGETS, 0, np.arange(len(store)))
    assert sorted(plan.example[: len(store)]) == list(range(len(store)))
    assert len(plan) == grpo.steps * grpo.prompts_per_step
    assert BUDGETS.low <= plan.k.min()
    assert plan.k.max() <= BUDGETS.high
    assert not np.array_equal(plan.example, make_plan(grpo, BUDGETS, 1, np.arange(len(store))).example)
