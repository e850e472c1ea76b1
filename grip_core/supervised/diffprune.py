"""Tokens throttled by noise that preserves their variance (DiffPrune, He et al. 2026).

Token v becomes m v + sqrt(1 - m^2) noise, with m of the soft top-k mask: nothing leaves the prompt, but what is not
wanted says less. The noise is Gaussian, per channel with the root mean square of the batch's visual tokens, so that the
second moment of every channel stays what it is. The loss is the answer's cross-entropy alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from grip_core.config import SupervisedConfig
from grip_core.supervised.relaxation import Batch, answer_cross_entropy
from grip_core.supervised.top_k import soft_top_k
from grip_core.vlm.context import Context, Selection

SMALLEST_VARIANCE = 1e-6  # of the noise: the square root has no slope at 0


def loss(config: SupervisedConfig, batch: Batch) -> dict[str, torch.Tensor]:
    """The answer's cross-entropy from throttled tokens."""
    mask_BN = soft_top_k(batch.scores_BN, batch.k_B, config.temperature)
    throttled_BND = throttle(batch.context, mask_BN, batch.generator)

    def logits(part: Context, rows_R: torch.Tensor) -> torch.Tensor:
        return batch.vlm.forward_logits(replace(part, visual_BND=throttled_BND[rows_R]), Selection.all(part))

    return {"cross_entropy": answer_cross_entropy(batch, logits)}


def throttle(context: Context, mask_BN: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The visual tokens (B, N, D), each with as much noise as its mask leaves room for."""
    tokens_BND = context.visual_BND
    scale_D = tokens_BND[context.visual_mask_BN].square().mean(0).sqrt()
    noise_BND = torch.randn(tokens_BND.shape, generator=generator).to(tokens_BND) * scale_D
    mask_BN1 = mask_BN[..., None]
    return mask_BN1 * tokens_BND + (1 - mask_BN1.square()).clamp_min(SMALLEST_VARIANCE).sqrt() * noise_BND
