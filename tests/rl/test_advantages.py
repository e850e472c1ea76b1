from __future__ import annotations

import pytest
import torch

from grip_core.rl.advantages import EPSILON, dead_groups, group_advantages

REWARDS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0], [5.0, 5.0, 5.0]])
NONE_DEAD = torch.zeros(3, dtype=torch.bool)


def advantages(baseline="mean", scale="none", std_floor=0.0, dead=NONE_DEAD) -> torch.Tensor:
    return group_advantages(REWARDS, baseline, scale, std_floor, dead)


def test_group_scaling_by_hand():
    expected = torch.tensor([-1.0, 0.0, 1.0]) / (1.0 + EPSILON)
    assert torch.allclose(advantages(scale="group")[0], expected)


def test_no_scaling_only_centers():
    assert advantages()[1].tolist() == [-2.0, -2.0, 4.0]


def test_batch_scaling_divides_all_groups_by_one_number():
    wanted = (REWARDS - REWARDS.mean(1, keepdim=True)) / (REWARDS.std() + EPSILON)
    assert torch.allclose(advantages(scale="batch"), wanted)


def test_leaving_one_out_is_the_mean_of_the_others():
    wanted = [[own - (group.sum() - own) / 2 for own in group] for group in REWARDS]
    torch.testing.assert_close(advantages("leave_one_out"), torch.tensor(wanted))


@pytest.mark.parametrize("scale", ["group", "batch"])
def test_the_floor_holds_small_stds_up_and_leaves_large_ones_alone(scale):
    assert torch.allclose(advantages(scale=scale, std_floor=10.0)[0], torch.tensor([-1.0, 0.0, 1.0]) / 10, atol=1e-5)
    assert torch.equal(advantages(scale=scale, std_floor=0.5)[1], advantages(scale=scale)[1])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_dead_groups_get_nothing(scale):
    dead = dead_groups(REWARDS, 1.5)
    assert dead.tolist() == [True, False, True]
    found = advantages(scale=scale, dead=dead)
    assert not found[[0, 2]].any()
    assert torch.equal(found[1], advantages(scale=scale)[1])
