"""Group-relative advantages (Shao et al. 2024, GRPO; "none" is Dr. GRPO, Liu et al. 2025)."""

from __future__ import annotations

import torch

EPSILON = 1e-4  # TRL's own, so that a group above the floor gets TRL's number


def group_advantages(rewards_BG: torch.Tensor, scale: str, min_std: float) -> torch.Tensor:
    """Advantages (B, G): reward minus the group's mean, over the std of the group, of the batch, or unscaled.

    A group whose reward std is at most `min_std` is dead and gets zeros: dividing by a vanishing std would turn the
    model's rounding noise into advantages of unit size. The std is the sample std (n - 1).
    """
    centered_BG = rewards_BG - rewards_BG.mean(1, keepdim=True)
    std_B1 = rewards_BG.std(1, keepdim=True)
    if scale == "group":
        advantages_BG = centered_BG / (std_B1 + EPSILON)
    elif scale == "batch":
        advantages_BG = centered_BG / (rewards_BG.std() + EPSILON)
    else:
        advantages_BG = centered_BG
    return advantages_BG.masked_fill(dead_groups(rewards_BG, min_std)[:, None], 0.0)


def dead_groups(rewards_BG: torch.Tensor, min_std: float) -> torch.Tensor:
    """True where a group carries no signal, (B,)."""
    return rewards_BG.std(1) <= min_std
