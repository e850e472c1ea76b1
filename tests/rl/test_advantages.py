from __future__ import annotations

import pytest
import torch

from grip_core.rl.advantages import EPSILON, dead_groups, group_advantages

REWARDS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0], [5.0, 5.0, 5.0]])


def test_group_scaling_by_hand():
    expected = torch.tensor([-1.0, 0.0, 1.0]) / (1.0 + EPSILON)
    assert torch.allclose(group_advantages(REWARDS, "group", 0.0)[0], expected)


def test_no_scaling_only_centers():
    assert group_advantages(REWARDS, "none", 0.0)[1].tolist() == [-2.0, -2.0, 4.0]


def test_batch_scaling_divides_all_groups_by_one_number():
    advantages = group_advantages(REWARDS, "batch", 0.0)
    wanted = (REWARDS - REWARDS.mean(1, keepdim=True)) / (REWARDS.std() + EPSILON)
    assert torch.allclose(advantages, wanted)
    assert not torch.allclose(advantages, group_advantages(REWARDS, "none", 0.0))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_groups_below_the_floor_are_dead(scale):
    assert dead_groups(REWARDS, 1.5).tolist() == [True, False, True]
    advantages = group_advantages(REWARDS, scale, 1.5)
    assert advantages[0].abs().max() == 0
    assert advantages[2].abs().max() == 0
    assert advantages[1].abs().max() > 0
