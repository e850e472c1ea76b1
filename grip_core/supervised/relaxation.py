"""What every supervised method is given, and the loss that those through the VLM share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

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


def answer_cross_entropy(batch: Batch, logits_of: Callable[[Context, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Of the gold answer's tokens, mean over a prompt's tokens and then over prompts, nats: minus GRPO's reward.

    `logits_of` gives the logits (R, A, V) of some of the batch's prompts, by their context and their rows in the batch.
    It is given `rows_per_forward` at once. Where that is not all, a part's graph is made again for its backward (Chen
    et al. 2016), so that the memory holds one part's.
    """

    def log_probs(rows_R: torch.Tensor) -> torch.Tensor:
        part = batch.context.rows(rows_R)
        return answer_scores(logits_of(part, rows_R), part.answer_ids_BA, part.answer_mask_BA).log_prob_R

    rows_B = torch.arange(batch.context.batch_size, device=batch.scores_BN.device)
    parts = rows_B.split(batch.vlm.rows_per_forward)
    if len(parts) == 1:
        return -log_probs(rows_B).mean()
    return -torch.cat([checkpoint(log_probs, rows_R, use_reentrant=False) for rows_R in parts]).mean()
