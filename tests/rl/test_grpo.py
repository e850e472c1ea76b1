"""GRPO on TRL: what TPRL's public code gets wrong, and the loss against one written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.rl.advantages import group_advantages
from grip_core.rl.scoring import score_selections
from grip_core.rl.train import build_trainer, carries_signal, make_plan
from tests.rl.conftest import BUDGETS


@pytest.fixture
def trainer(grpo, warmup_scorer, llava, store, tmp_path):
    return build_trainer(grpo, BUDGETS, 3, warmup_scorer, llava.vlm, store, tmp_path)


def rollout(trainer):
    """One rollout's inputs, as TRL makes them for its first step."""
    group = trainer.num_generations
    rows = [{"prompt": str(place)} for place in range(trainer.grip.prompts_per_step) for _ in range(group)]
    trainer.model.train()
    return trainer._generate_and_score_completions(rows)


def scored(trainer, inputs, model):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    return trainer._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].shape[1])[0]


def test_the_ratio_is_one_and_the_kl_zero_before_the_first_update(trainer):
    inputs = rollout(trainer)
    current = scored(trainer, inputs, trainer.model)
    assert torch.allclose(current, inputs["sampling_per_token_logps"], atol=1e-5)
    assert torch.equal(current.detach(), inputs["ref_per_token_logps"])


def test_the_reference_stays_when_the_policy_moves(trainer):
    inputs = rollout(trainer)
    with torch.no_grad():
        trainer.model.score.weight.mul_(1.5)
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
    with torch.no_grad():
        trainer.model.score.weight.mul_(1.3)
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


def test_advantages_come_from_the_rewards_of_their_own_group(trainer, llava):
    inputs = rollout(trainer)
    rewards = torch.tensor(list(trainer._logs["rewards"]["_reward"])).view(-1, trainer.num_generations)
    wanted = group_advantages(rewards, "group", 0.0).flatten()
    assert torch.allclose(inputs["advantages"], wanted)
    # A row's reward is what the VLM gives for that row's own selection.
    row = 5
    b, k = int(inputs["prompt_ids"][row, 0]), int(inputs["completion_mask"][row].sum())
    kept = PlackettLuce(torch.zeros(1, 144), torch.tensor([k])).mask_BK
    context = trainer.rollout.context.rows(torch.tensor([b]))
    alone = score_selections(llava.vlm, context, inputs["completion_ids"][row, :k][None, None], kept)
    assert alone.log_prob_R[0].item() == pytest.approx(rewards.flatten()[row].item(), abs=1e-5)


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
