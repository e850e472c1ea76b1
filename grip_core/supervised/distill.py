"""Attention distillation: the warm-up's loss continued on the run's own questions and budgets, with no reward.

The teacher is asked at every step, as one epoch of questions is more than a run sees; it is the full model's attention.
"""

from __future__ import annotations

import torch

from grip_core.config import SupervisedConfig
from grip_core.rl.teachers import attention, sharpened
from grip_core.rl.warmup import first_pick_cross_entropy
from grip_core.supervised.relaxation import Batch


def loss(config: SupervisedConfig, batch: Batch) -> dict[str, torch.Tensor]:
    """The teacher's cross-entropy with the policy's first pick."""
    target_BN = sharpened(attention(batch.vlm, batch.context), config.sharpness)
    return {"cross_entropy": first_pick_cross_entropy(batch.scores_BN, target_BN)}
