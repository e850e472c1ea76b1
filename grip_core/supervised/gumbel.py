"""Gumbel straight-through (DynamicViT, Rao et al. 2021; Dynamic-LLaVA, Huang et al. 2024), for a budget of k tokens.

Forward, the k best of scores + Gumbel noise are kept and the others leave the attention: a sample of the policy that
GRPO trains. Backward, the mask's gradient is that of the soft top-k mask of the same noisy scores. Those papers decide
token by token and hold the mean number near a target; here k is exact, as in everything else that is compared.
"""

from __future__ import annotations

import torch

from grip_core.config import SupervisedConfig
from grip_core.supervised.relaxation import Batch, answer_cross_entropy
from grip_core.supervised.top_k import hard_top_k, soft_top_k
from grip_core.vlm.masked import masked_logits


def loss(config: SupervisedConfig, batch: Batch) -> dict[str, torch.Tensor]:
    """The answer's cross-entropy from a noisy hard selection."""
    mask_BN = straight_through(batch.scores_BN, batch.k_B, config.temperature, batch.generator)
    loss = answer_cross_entropy(batch, lambda part, rows_R: masked_logits(batch.vlm, part, mask_BN[rows_R]))
    return {"cross_entropy": loss}


def straight_through(
    scores_BN: torch.Tensor, k_B: torch.Tensor, temperature: float, generator: torch.Generator
) -> torch.Tensor:
    """A mask of zeros and k ones a prompt, (B, N), with the gradient of the soft one."""
    noisy_BN = scores_BN + gumbel_noise(scores_BN, generator)
    soft_BN = soft_top_k(noisy_BN, k_B, temperature)
    return hard_top_k(noisy_BN, k_B) + (soft_BN - soft_BN.detach())


def gumbel_noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny))).to(like)
