"""GRPO on TRL: the loss against one written out in float64, every switch, and what TRL's public code gets wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grip_core.policy.distribution import Picks
from grip_core.rl import grpo as module
from grip_core.rl.advantages import group_advantages
from grip_core.rl.scoring import score_selections
from grip_core.rl.train import Task, build_trainer, carries_signal, make_plan
from tests.rl import closed_form
from tests.rl.conftest import BUDGETS, make_budgets, make_grpo, make_reward

DISTRIBUTIONS = ["plackett_luce", "conditional_bernoulli", "bernoulli"]
LEVELS = {"luspo": ["sequence"], "grpo": ["token", "sequence"], "sapo": ["token", "sequence"]}
LOSSES = [
    (loss_type, level)
    for loss_type in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
    for level in LEVELS.get(loss_type, ["token"])
]


@pytest.fixture
def make(warmup_scorer, llava, store, tmp_path):
    def build(budgets=BUDGETS, **changes):
        task = Task(llava.vlm, store, warmup_scorer)
        return build_trainer(make_grpo(**changes), budgets, 3, task, tmp_path)

    return build


@pytest.fixture
def trainer(make):
    return make()


def rollout(trainer, number: int = 0):
    """A rollout's inputs, as TRL makes them at the first update on it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # set by transformers' loop
    return trainer._generate_and_score_completions([{"prompt": str(number)}] * trainer.num_generations)


def move(trainer, factor: float) -> None:
    """What an update does: the policy's weights change, and the rollout's own scores are spent."""
    with torch.no_grad():
        trainer.model.score.weight.mul_(factor)
    trainer.rollout.scores_BN = None


def slope_of(trainer, loss: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, trainer.model.score.weight, retain_graph=True)[0]


def scores(trainer, model) -> torch.Tensor:
    return model(trainer.rollout.context, trainer.rollout.k_B).double()


def check_loss(trainer, loss, inputs, old_BN, **further) -> None:
    """Value and gradient are the closed form's."""
    current_BN = scores(trainer, trainer.model)
    group = trainer.num_generations
    wanted = closed_form.loss(
        trainer.grip,
        BUDGETS.high,
        current_BN,
        scores(trainer, trainer.ref_model),
        old_BN,
        trainer.rollout.k_B,
        trainer.rollout.picks,
        inputs["advantages"].view(-1, group),
        **further,
    )
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    slope, expected = slope_of(trainer, loss), slope_of(trainer, wanted).float()
    assert expected.abs().max() > 1e-4
    assert torch.allclose(slope, expected, atol=1e-5 + 1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("loss_type", "level"), LOSSES)
@pytest.mark.parametrize("iterations", [1, 2])
def test_the_loss_is_the_papers_written_out(make, distribution, loss_type, level, iterations):
    if distribution == "bernoulli" and loss_type in ("grpo", "sapo"):
        with pytest.raises(ValueError, match="take dapo or bnpo"):
            make(distribution=distribution, loss_type=loss_type)
        return
    trainer = make(
        distribution=distribution,
        loss_type=loss_type,
        importance_level=level,
        num_iterations=iterations,
        epsilon=0.1,
        epsilon_high=1.05 if loss_type == "cispo" else 0.15,
        beta=0.3,
    )
    inputs = rollout(trainer)
    old_BN = scores(trainer, trainer.model).detach()
    if iterations > 1:
        move(trainer, 1.4)
    check_loss(trainer, trainer._compute_loss(trainer.model, inputs), inputs, old_BN)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_sampled_kls_are_written_out(make, distribution, estimator):
    trainer = make(distribution=distribution, loss_type="dapo", kl_estimator=estimator, num_iterations=2, beta=0.5)
    inputs = rollout(trainer)
    old_BN = scores(trainer, trainer.model).detach()
    move(trainer, 1.4)
    check_loss(trainer, trainer._compute_loss(trainer.model, inputs), inputs, old_BN)


def test_a_kl_in_the_reward_is_taken_off_every_selections_reward(make):
    trainer = make(kl_placement="reward", kl_estimator="k1", beta=2.0, scale_rewards="none")
    with torch.no_grad():
        trainer.model.score.weight.mul_(1.4)  # away from the reference, or the KL would be 0
    inputs = rollout(trainer)
    policy_BN, reference_BN = scores(trainer, trainer.model), scores(trainer, trainer.ref_model)
    rewards_BG = trainer.rollout.rewards_BG.double().clone()
    picks = trainer.rollout.picks
    for b in range(len(rewards_BG)):
        for g in range(rewards_BG.shape[1]):
            index = picks.index_BGK[b, g][picks.mask_BGK[b, g]].tolist()
            new, reference = (
                torch.stack(closed_form.pick_log_probs("plackett_luce", values[b], index, len(index)))
                for values in (policy_BN, reference_BN)
            )
            rewards_BG[b, g] -= 2.0 * (new - reference).sum().item()
    wanted = group_advantages(rewards_BG, "mean", "none", 0.0, torch.zeros(len(rewards_BG), dtype=torch.bool))
    assert torch.allclose(inputs["advantages"].double(), wanted.flatten(), atol=1e-5)
    plain_BG = trainer.rollout.rewards_BG - trainer.rollout.rewards_BG.mean(1, keepdim=True)
    assert not torch.allclose(inputs["advantages"], plain_BG.flatten(), atol=1e-3)


SWITCHES = {
    "distribution": {"distribution": "conditional_bernoulli"},
    "distribution, independent": {"distribution": "bernoulli", "loss_type": "dapo"},
    "baseline": {"baseline": "leave_one_out"},
    "scale, batch": {"scale_rewards": "batch"},
    "scale, none": {"scale_rewards": "none"},
    "std floor": {"std_floor": 5.0},
    "reward, correctness": {"reward": make_reward(correct=1.0)},
    "reward, fidelity": {"reward": make_reward(fidelity=1.0)},
    "reward, clipped gain": {"reward": make_reward(gain=1.0, clip_high=-0.2)},
    "reward, clipped": {"reward": make_reward(log_prob=1.0, clip_low=-3.0)},
    "beta": {"beta": 0.5},
    "kl, k1": {"beta": 0.5, "kl_estimator": "k1"},
    "kl, k2": {"beta": 0.5, "kl_estimator": "k2"},
    "kl, exact": {"beta": 0.5, "kl_estimator": "exact"},
    "kl, in the reward": {"beta": 0.5, "kl_estimator": "k1", "kl_placement": "reward"},
    "entropy bonus": {"entropy_coef": 0.1},
    "loss, dr_grpo": {"loss_type": "dr_grpo"},
    "loss, dapo": {"loss_type": "dapo"},
    "loss, luspo": {"loss_type": "luspo", "importance_level": "sequence"},
    "loss, cispo": {"loss_type": "cispo", "epsilon_high": 1.01},
    "loss, sapo": {"loss_type": "sapo"},
    "loss, vespo": {"loss_type": "vespo"},
    "level": {"importance_level": "sequence"},
    "clip": {"epsilon": 0.01, "epsilon_high": 0.01},
    "clip higher": {"epsilon_high": 0.8},
    "dead groups, dropped": {"dead_groups": "drop", "min_std": 0.3},
    "dead groups, replaced": {"dead_groups": "resample", "min_std": 0.3},
    "dead groups, kept": {"min_std": 0.3},
    "filter": {"filter": make_grpo().filter.model_copy(update={"failed_with_all_tokens": True})},
    "group size": {"group_size": 4},
}


def second_update(trainer) -> torch.Tensor:
    """The gradient of a rollout's second update, where the policy has left both the old one and the reference."""
    with torch.no_grad():
        trainer.model.score.weight.mul_(1.1)
    inputs = rollout(trainer)
    move(trainer, 1.2)
    return slope_of(trainer, trainer._compute_loss(trainer.model, inputs))


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_reaches_the_gradient(make, store, monkeypatch, name):
    # Half the answers count as right, or correctness would be the same for all selections of the random model.
    monkeypatch.setattr(module, "score_selections", _half_right)
    plain = second_update(make(num_iterations=2))
    switched = second_update(make(num_iterations=2, **SWITCHES[name]))
    assert switched.isfinite().all()
    assert not torch.allclose(plain, switched, rtol=1e-3, atol=1e-7)
    assert torch.equal(plain, second_update(make(num_iterations=2)))


@pytest.mark.parametrize(
    ("schedule", "changes"),
    [
        ("constant", {}),
        ("uniform", {}),
        ("linear", {}),
        ("linear", {"direction": "low_to_high"}),
        ("cosine", {}),
        ("staged", {}),
        ("mixture", {}),
        ("adaptive", {}),
    ],
)
def test_every_schedule_reaches_the_budgets(make, schedule, changes):
    trainer, other = make(), make(make_budgets(schedule=schedule, **changes))
    budgets = []
    for each in (trainer, other):
        drawn = []
        for number in range(2):
            rollout(each, number)
            drawn += each.rollout.k_B.tolist()
        budgets.append(drawn)
    assert budgets[0] != budgets[1]
    assert all(BUDGETS.low <= k <= BUDGETS.high for k in budgets[1])


def _half_right(vlm, context, picks, with_kl=False):
    found = score_selections(vlm, context, picks, with_kl)
    return type(found)(found.log_prob_R, torch.arange(len(found.log_prob_R)) % 2 == 0, found.kl_R)


def test_losses_without_clipping_report_none(make):
    for loss_type in ("sapo", "vespo"):
        trainer = make(loss_type=loss_type, num_iterations=2, epsilon=0.001, epsilon_high=0.001)
        inputs = rollout(trainer)
        move(trainer, 1.4)
        trainer._compute_loss(trainer.model, inputs)
        assert trainer.diagnostics["clip_share"] == 0.0
        assert trainer.diagnostics["ess"] < 1.0


def test_entropy_bonus_by_hand(make):
    """On-policy the path estimate's value is the sum of each pick's own entropy."""
    trainer = make(entropy_coef=0.7, beta=0.0)
    inputs = rollout(trainer)
    loss = trainer._compute_loss(trainer.model, inputs)

    def entropy(scores_N: torch.Tensor, index: list[int], k: int) -> torch.Tensor:
        left, total = torch.ones(len(scores_N), dtype=torch.bool), torch.zeros((), dtype=torch.float64)
        for pick in index:
            log_p = scores_N[left].log_softmax(0)
            total = total - (log_p.exp() * log_p).sum()
            left[pick] = False
        return total

    current_BN = scores(trainer, trainer.model)
    wanted = closed_form.loss(
        trainer.grip,
        BUDGETS.high,
        current_BN,
        current_BN,
        current_BN,
        trainer.rollout.k_B,
        trainer.rollout.picks,
        inputs["advantages"].view(-1, trainer.num_generations),
        entropy,
    )
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)


def test_the_policy_is_the_reference_before_the_first_update(trainer):
    inputs = rollout(trainer)
    log_probs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, None, None, 0)
    assert torch.equal(log_probs.detach(), inputs["reference_BGK"].flatten(0, 1))
    trainer._compute_loss(trainer.model, inputs)
    assert trainer.diagnostics["kl"] == pytest.approx(0.0, abs=1e-6)
    assert trainer.diagnostics["ratio_max"] == 1.0


def test_the_first_update_reuses_the_rollouts_scores_and_later_ones_do_not(trainer):
    rollout(trainer)
    slopes = []
    for _ in range(2):
        log_probs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, None, None, 0)
        slopes.append(slope_of(trainer, log_probs.sum()))
        assert trainer.rollout.scores_BN is None
    assert torch.equal(*slopes)
    move(trainer, 1.5)
    moved, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, None, None, 0)
    assert not torch.allclose(moved, log_probs)


def test_budgets_are_the_schedules_and_actions_are_distinct(trainer):
    rollout(trainer)
    picks, k_B = trainer.rollout.picks, trainer.rollout.k_B
    assert (picks.mask_BGK.sum(-1) == k_B[:, None]).all()
    for index, mask in zip(picks.index_BGK.flatten(0, 1), picks.mask_BGK.flatten(0, 1), strict=True):
        assert len(set(index[mask].tolist())) == mask.sum()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_gradient_of_full_size_has_the_same_bits_every_time(make, distribution):
    """Large enough for several threads, whose sums must not depend on which comes first."""
    trainer = make(prompts_per_step=16, group_size=32, distribution=distribution, loss_type="dapo")
    inputs = rollout(trainer)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = set()
        for _ in range(20):
            loss = trainer._compute_loss(trainer.model, inputs)
            slopes = torch.autograd.grad(loss, list(trainer.model.parameters()))
            found.add(b"".join(slope.numpy().tobytes() for slope in slopes))
    finally:
        torch.set_num_threads(threads)
    assert len(found) <= 2  # the rollout's own scores once, then the same scores computed anew
    assert len(found) == 1 or distribution != "plackett_luce"


def test_advantages_come_from_the_rewards_of_their_own_group(trainer, llava):
    """A row's reward is what the VLM gives for that row's own selection, scored alone."""
    inputs = rollout(trainer)
    picks, rewards = trainer.rollout.picks, []
    for b in range(len(picks.index_BGK)):
        context = trainer.rollout.context.rows(torch.tensor([b]))
        for g in range(trainer.num_generations):
            k = int(picks.mask_BGK[b, g].sum())
            alone = Picks(picks.index_BGK[b, g, :k][None, None], torch.ones(1, 1, k, dtype=torch.bool))
            rewards.append(score_selections(llava.vlm, context, alone).log_prob_R[0])
    rewards_BG = torch.stack(rewards).view(-1, trainer.num_generations)
    assert rewards_BG.std(1).min() > 1e-3
    dead_B = torch.zeros(len(rewards_BG), dtype=torch.bool)
    wanted = group_advantages(rewards_BG, "mean", "group", 0.0, dead_B).flatten()
    assert torch.allclose(inputs["advantages"], wanted, atol=0.02)


def std_between(trainer) -> float:
    """A reward std that some groups of the first rollout lie below and some above."""
    rollout(trainer)
    stds = trainer.rollout.rewards_BG.std(1).sort().values
    return float((stds[1] + stds[2]) / 2)


def test_dropped_groups_leave_the_loss_and_the_kl(make):
    floor = std_between(make())
    trainer = make(dead_groups="drop", min_std=floor, num_iterations=2)
    inputs = rollout(trainer)
    assert len(trainer.rollout.k_B) == 2
    assert len(inputs["advantages"]) == 2 * trainer.num_generations
    assert trainer.diagnostics["dead_share"] == 0.5
    old_BN = scores(trainer, trainer.model).detach()
    move(trainer, 1.4)
    check_loss(trainer, trainer._compute_loss(trainer.model, inputs), inputs, old_BN)


def test_where_every_group_is_dead_there_is_no_gradient(make):
    trainer = make(dead_groups="drop", min_std=1e6, num_iterations=2, entropy_coef=0.1)
    inputs = rollout(trainer)
    move(trainer, 1.4)
    loss = trainer._compute_loss(trainer.model, inputs)
    assert loss == 0
    assert not slope_of(trainer, loss).any()
    kept = make(dead_groups="keep", min_std=1e6, num_iterations=2)
    inputs = rollout(kept)
    move(kept, 1.4)
    assert slope_of(kept, kept._compute_loss(kept.model, inputs)).any()  # the KL still holds


def test_dead_groups_are_replaced_at_their_budgets(make):
    floor = std_between(make())
    kept, replaced = (make(dead_groups=name, min_std=floor) for name in ("drop", "resample"))
    rollout(kept)
    before = kept.rollout
    inputs = rollout(replaced)
    after = replaced.rollout
    assert len(after.k_B) > len(before.k_B)
    live = len(before.k_B)
    assert np.array_equal(after.example_B[:live], before.example_B)
    assert torch.equal(after.rewards_BG[:live], before.rewards_BG)
    assert set(after.example_B[live:]) <= set(replaced.plan.reserve[0])
    assert replaced.diagnostics["scored"] == 6 * replaced.num_generations
    assert (after.rewards_BG.std(1) > floor).all()
    # Joined prompts are padded anew: their selections still score what they scored.
    again = score_selections(replaced.vlm, after.context, after.picks).log_prob_R
    assert torch.allclose(again, after.rewards_BG.flatten(), atol=1e-4)
    old_BN = scores(replaced, replaced.model).detach()
    check_loss(replaced, replaced._compute_loss(replaced.model, inputs), inputs, old_BN)


def test_the_budget_penalty_falls_on_what_misses_the_budget(make):
    kind = {"distribution": "bernoulli", "loss_type": "dapo"}
    free, bound = (make(**kind, budget_penalty=penalty) for penalty in (0.0, 3.0))
    rollout(free)
    rollout(bound)
    picks = bound.rollout.picks
    assert torch.equal(picks.index_BGK, free.rollout.picks.index_BGK)
    k_B = bound.rollout.k_B[:, None]
    overrun_BG = (picks.mask_BGK.sum(-1) - k_B).abs() / k_B
    assert overrun_BG.max() > 0
    torch.testing.assert_close(bound.rollout.rewards_BG, free.rollout.rewards_BG - 3.0 * overrun_BG)


def test_signal_filters(store, grpo):
    drop_failed = grpo.filter.model_copy(update={"failed_with_all_tokens": True})
    drop_both = drop_failed.model_copy(update={"answered_without_image": True})
    assert carries_signal(store, grpo.filter).all()
    assert carries_signal(store, drop_failed)[:3].tolist() == [False, True, True]
    assert carries_signal(store, drop_both)[:3].tolist() == [False, False, True]


def test_the_plan_covers_every_example_before_any_comes_twice(grpo, store):
    plan = make_plan(grpo, 0, np.arange(len(store)))
    assert plan.example.shape == (grpo.steps, grpo.prompts_per_step)
    assert sorted(plan.example.flatten()[: len(store)]) == list(range(len(store)))
    assert plan.reserve is None
    other = make_plan(make_grpo(dead_groups="resample"), 1, np.arange(len(store)))
    assert not np.array_equal(plan.example, other.example)
    assert other.reserve.shape == other.example.shape
    assert not np.array_equal(other.reserve, other.example)
