"""Differentiable top-k with a pull towards a hard mask (VisionSelector, Zhu et al. 2025).

Tokens weigh in the attention by a soft mask that sums to k. The loss is the answer's cross-entropy, plus w times the
binary cross-entropy of the soft mask to the hard one, mean over tokens; w goes from `bce_low` to `bce_high` over the
run, linearly. Weighing the attention, not the embeddings, is what makes a mask that has become hard a real removal.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.config import SupervisedConfig
from grip_core.supervised.relaxation import Batch, answer_cross_entropy
from grip_core.supervised.top_k import hard_top_k, soft_top_k
from grip_core.vlm.masked import masked_logits


def loss(config: SupervisedConfig, batch: Batch) -> dict[str, torch.Tensor]:
    """The answer's cross-entropy from softly weighed tokens, and the pull."""
    soft_BN = soft_top_k(batch.scores_BN, batch.k_B, config.temperature)
    cross_entropy = answer_cross_entropy(batch, lambda part, rows_R: masked_logits(batch.vlm, part, soft_BN[rows_R]))
    weight = config.bce_low + (config.bce_high - config.bce_low) * batch.done
    real_BN = batch.context.visual_mask_BN
    bce = F.binary_cross_entropy(soft_BN[real_BN], hard_top_k(batch.scores_BN, batch.k_B)[real_BN])
    return {"cross_entropy": cross_entropy, "weighted_bce": weight * bce}
