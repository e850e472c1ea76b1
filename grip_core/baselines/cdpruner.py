"""CDPruner (Zhang et al. 2025, arXiv 2506.10967): diverse tokens that fit the question, by a determinant.

The letter J counts the tokens taken so far.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import Baseline
from grip_core.baselines.masks import selection
from grip_core.vlm.context import Context, Selection

FLOOR = 1e-6
"""Relevance of the least relevant token, as published: the kernel stays positive."""
NOTHING_NEW = 1e-6
"""Of a token's squared length, outside the span of those taken: below it the kernel's rank counts as exhausted."""
LATER = 1000.0  # in log gain, more than any two tokens can differ by


class CDPruner(Baseline):
    """Greedy MAP of the determinantal point process with the kernel r_i cos_ij r_j, fast (Chen et al. 2018).

    The relevance r is the mean cosine of the projected token to the question's tokens in the language model's
    embedding space, from min to max over the image: there need not be a CLIP text tower, on which the original relies.
    It also turns the sign, as CLIP's patches resemble least the words for what they show; here more similar is more
    relevant.

    As det(diag(r) S diag(r)) = det(S) prod r_i^2, the search runs on the cosines alone, and the gain of a token is
    log r_i^2 plus the log of its squared length outside the span of those taken. Once every token lies in that span (k
    is above the rank), the determinant is 0 whatever comes next: the rest follow by relevance, ties by the lower index.
    """

    name = "cdpruner"
    label = "CDPruner (LLM text)"
    query_aware = True

    def select(self, context: Context, k: int) -> Selection:
        real_BN = context.visual_mask_BN
        unit_BND = F.normalize(context.visual_BND.double(), dim=-1)
        quality_BN = 2.0 * _relevance(unit_BND, context).log()
        return selection(greedy_map(unit_BND @ unit_BND.transpose(1, 2), quality_BN, real_BN, k) & real_BN)


def _relevance(unit_BND: torch.Tensor, context: Context) -> torch.Tensor:
    """FLOOR to 1 over the real tokens of each image, 1 where all are alike; what padding has does not matter."""
    question_BLD = F.normalize(context.question_BLD.double(), dim=-1) * context.question_mask_BL[..., None]
    mean_BD1 = (question_BLD.sum(1) / context.question_mask_BL.sum(1, keepdim=True))[..., None]
    cosine_BN = (unit_BND @ mean_BD1)[..., 0]
    padding_BN = ~context.visual_mask_BN
    low_B1 = cosine_BN.masked_fill(padding_BN, float("inf")).amin(1, keepdim=True)
    high_B1 = cosine_BN.masked_fill(padding_BN, float("-inf")).amax(1, keepdim=True)
    return ((cosine_BN - low_B1 + FLOOR) / (high_B1 - low_B1 + FLOOR)).clamp(FLOOR, 1.0)


def greedy_map(kernel_BNN: torch.Tensor, quality_BN: torch.Tensor, real_BN: torch.Tensor, k: int) -> torch.Tensor:
    """Mask of the min(k, N) tokens that each in turn add most to log det(kernel) + sum of quality.

    A Cholesky factor grows by a column for each. `kernel_BNN` is positive semi-definite.
    """
    batch, n, _ = kernel_BNN.shape
    row_B = torch.arange(batch, device=kernel_BNN.device)
    taken_BN = torch.zeros_like(real_BN)
    new_BN = kernel_BNN.diagonal(dim1=1, dim2=2).clone()  # squared length outside the span of the taken
    factor_BNJ = quality_BN.new_zeros(batch, n, 0)
    for _ in range(min(k, n)):
        gain_BN = torch.where(new_BN > NOTHING_NEW, new_BN.log(), -LATER) + quality_BN
        pick_B = gain_BN.masked_fill(taken_BN | ~real_BN, float("-inf")).argmax(1)
        length_B = new_BN[row_B, pick_B]
        inside_BN = (factor_BNJ @ factor_BNJ[row_B, pick_B][..., None])[..., 0]
        column_BN = (kernel_BNN[row_B, pick_B] - inside_BN) * length_B.clamp(min=NOTHING_NEW).rsqrt()[:, None]
        column_BN = column_BN.masked_fill((length_B <= NOTHING_NEW)[:, None], 0.0)
        factor_BNJ = torch.cat([factor_BNJ, column_BN[..., None]], dim=2)
        new_BN = (new_BN - column_BN**2).clamp(min=0.0)
        taken_BN[row_B, pick_B] = True
    return taken_BN
