"""What every supervised method is given, and the loss that those through the VLM share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from grip_core.config import SupervisedConfig
from grip_core.vlm.context import Context
from grip_core.vlm.frozen import FrozenVLM, answer_scores


@dataclass(frozen=True)
class Batch:
    """One step's prompts, and the scorer's scores of their tokens with the graph."""

    vlm: FrozenVLM
    context: Context
    scores_BN: torch.Tensor
    k_B: torch.Tensor
    done: float
    """The part of the run that is over: 0 at its first step, 1 at its last."""
    generator: torch.Generator
    """For this step's draws."""


Relaxation = Callable[[SupervisedConfig, Batch], dict[str, torch.Tensor]]
"""The summands of the loss, by name."""


def answer_cross_entropy(logits_BAV: torch.Tensor, context: Context) -> torch.Tensor:
    """Of the gold answer's tokens, mean over a prompt's tokens and then over prompts, nats: minus GRPO's reward."""
    return -answer_scores(logits_BAV, context.answer_ids_BA, context.answer_mask_BA).log_prob_R.mean()
