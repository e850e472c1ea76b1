"""Group-relative advantages: GRPO (Shao et al. 2024), Dr. GRPO ("none", Liu et al. 2025), RLOO (Ahmadian et al. 2024).

Shape legend: B prompts, G selections per prompt.
"""

from __future__ import annotations

import torch

EPSILON = 1e-4  # TRL's own, so that a group above the floors gets TRL's number


def group_advantages(
    rewards_BG: torch.Tensor, baseline: str, scale: str, std_floor: float, dead_B: torch.Tensor
) -> torch.Tensor:
    """Advantages (B, G): reward less a baseline, over the std of the group, of the batch, or unscaled.

    The baseline is the group's mean, or for "leave_one_out" the mean of the group's others, which makes it independent
    of the reward it is taken off. Stds are sample stds (n - 1), of the rewards, and count as at least `std_floor`: a
    vanishing one would turn the model's rounding noise into advantages of unit size. Dead groups get zeros.
    """
    group = rewards_BG.shape[1]
    centered_BG = rewards_BG - rewards_BG.mean(1, keepdim=True)
    if baseline == "leave_one_out":
        centered_BG = centered_BG * (group / (group - 1))
    if scale == "group":
        centered_BG = centered_BG / (rewards_BG.std(1, keepdim=True).clamp_min(std_floor) + EPSILON)
    elif scale == "batch":
        centered_BG = centered_BG / (rewards_BG.std().clamp_min(std_floor) + EPSILON)
    return centered_BG.masked_fill(dead_B[:, None], 0.0)


def dead_groups(rewards_BG: torch.Tensor, min_std: float) -> torch.Tensor:
    """True where a group carries no signal: its reward std is at most `min_std`, (B,)."""
    return rewards_BG.std(1) <= min_std
