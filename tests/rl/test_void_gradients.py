"""Settings that are nearly void: the gradients of their first updates are multiples of each other."""

from __future__ import annotations

import pytest
import torch

from grip_core.policy.conditional_bernoulli import ConditionalBernoulli
from grip_core.policy.distribution import Picks
from grip_core.policy.plackett_luce import PlackettLuce
from tests.rl.void_cases import FIXED, Settings, level, loss, refused

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def slope(build):
    """The gradient of the first update; with another reference if one is given."""

    def gradient(changes: Settings, reference_factor: float = 1.0) -> torch.Tensor:
        trainer = build({"grpo.beta": 0.0, **changes})
        with torch.no_grad():
            trainer.ref_model.score.weight.mul_(reference_factor)
        trainer.current_gradient_accumulation_steps = 1  # set by transformers' loop
        trainer.model.train()
        inputs = trainer._prepare_inputs([{"prompt": "0"}])
        loss = trainer._compute_loss(trainer.model, inputs)
        found = torch.autograd.grad(loss, [p for p in trainer.model.parameters() if p.requires_grad], allow_unused=True)
        return torch.cat([part.flatten() for part in found if part is not None])

    return gradient


def is_multiple(first: torch.Tensor, second: torch.Tensor, factor: float) -> bool:
    return torch.allclose(factor * first, second, rtol=1e-3, atol=1e-4 * float(second.abs().max()))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_leaving_one_out_multiplies_advantages_by_a_constant(slope, scale):
    scaled = {"grpo.scale_rewards": scale}
    assert is_multiple(slope(scaled), slope(scaled | {"grpo.baseline": "leave_one_out"}), 3 / 2)


def test_sums_over_picks_are_means_times_a_constant(slope):
    mean = slope(FIXED)  # 3 picks
    assert is_multiple(mean, slope(FIXED | level("sequence") | loss("luspo")), 3)
    assert is_multiple(mean, slope(FIXED | loss("dr_grpo")), 3 / 12)
    assert is_multiple(mean, slope(FIXED | loss("dr_grpo") | {"budgets.high": 24}), 3 / 24)
    assert is_multiple(slope(loss("dr_grpo")), slope(level("sequence") | loss("luspo")), 12)
    assert not is_multiple(slope({}), slope(loss("dr_grpo")), 3 / 12)


def test_as_a_loss_k1_does_not_see_the_reference(slope):
    def moves(estimator: str) -> bool:
        kl = {"grpo.beta": 1.0, "grpo.kl_estimator": estimator}
        return not is_multiple(slope(kl), slope(kl, reference_factor=2.0), 1)

    assert [moves(estimator) for estimator in ("k1", "k2", "k3")] == [False, True, True]


def test_dropping_dead_groups_is_a_factor_without_a_kl(slope, build):
    trainer = build({})
    trainer._prepare_inputs([{"prompt": "0"}])
    std_B = trainer.rollout.rewards_BG.std(1).sort().values
    half = {"grpo.min_std": float(std_B[1:3].mean())}
    assert is_multiple(slope(half), slope(half | {"grpo.dead_groups": "drop"}), 4 / 2)
    anchored = half | {"grpo.beta": 0.3, "grpo.kl_estimator": "k1"}
    assert not is_multiple(slope(anchored), slope(anchored | {"grpo.dead_groups": "drop"}), 4 / 2)
    assert std_B[0] > 0  # none is dead at min_std = 0


def test_a_kl_in_the_reward_may_bring_a_std_below_min_std_and_thus_the_floor(slope):
    """The first group's std is 1.08, and less its KL 1.02."""
    alive = {"grpo.min_std": 1.06}
    kl = alive | {"grpo.beta": 3.0, "grpo.kl_estimator": "k1", "grpo.kl_placement": "reward"}
    floor = {"grpo.std_floor": 1.06}
    assert is_multiple(slope(alive), slope(alive | floor), 1)
    assert not is_multiple(slope(kl, reference_factor=2.0), slope(kl | floor, reference_factor=2.0), 1)
    assert [refused({"grpo.std_floor": (0.0, 1.06)}, changes) for changes in (alive, kl)] == [True, False]


def test_the_weight_of_the_only_reward_is_its_unit(slope):
    tripled = {"grpo.reward.log_prob": 3.0}
    assert is_multiple(slope({}), slope(tripled), 1)
    assert is_multiple(slope({"grpo.scale_rewards": "none"}), slope(tripled | {"grpo.scale_rewards": "none"}), 3)
    fidelity = {"grpo.reward.fidelity": 1.0}
    assert not is_multiple(slope(fidelity), slope(fidelity | tripled), 1)


def test_gain_is_log_prob(slope):
    gain = {"grpo.reward.log_prob": 0.0, "grpo.reward.gain": 1.0}
    assert is_multiple(slope({}), slope(gain), 1)
    clip = {"grpo.reward.clip_high": -1.0}
    assert not is_multiple(slope(clip), slope(clip | gain), 1)


def test_without_a_division_the_gradient_has_the_size_of_the_reward(slope, build):
    one = {"grpo.prompts_per_step": 1}
    trainer = build(one)
    trainer._prepare_inputs([{"prompt": "0"}] * 3)
    std = float(trainer.rollout.rewards_BG.std())
    assert is_multiple(slope(one), slope(one | {"grpo.scale_rewards": "none"}), std)


def test_selections_of_one_token_have_one_distribution():
    scores_BN = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    picks = Picks(torch.arange(4)[None, :, None], torch.ones(1, 4, 1, dtype=torch.bool))
    both = (kind(scores_BN, torch.tensor([1])).log_prob(picks) for kind in (PlackettLuce, ConditionalBernoulli))
    assert torch.allclose(*both)
