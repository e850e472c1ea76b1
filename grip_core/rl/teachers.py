"""Teachers of the warm-up: where the full model looks, as a distribution over visual tokens.

Each maps (vlm, context) to (B, N), non-negative, summing to 1 (or all 0 where no token matters), 0 on padding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import FrozenVLM, answer_scores

BLOCK = 3  # tokens a side of the square groups that leave_group_out drops


def attention(vlm: FrozenVLM, context: Context) -> torch.Tensor:
    """Attention of the answer position to the visual tokens: mean over heads, largest over layers.

    Which layer looks the answer up depends on the question, so the largest says more than any one layer or their mean.
    """
    return _normalised(vlm.answer_attention(context).amax(1))


def gradient(vlm: FrozenVLM, context: Context) -> torch.Tensor:
    """|gradient x input| of the gold answer's log-probability, summed over the hidden size (Shrikumar et al. 2017)."""
    visual_BND = context.visual_BND.detach().clone().requires_grad_()
    open_context = context.rows(torch.arange(context.batch_size, device=visual_BND.device))
    open_context.visual_BND = visual_BND
    with torch.enable_grad():
        logits_RAV = vlm.forward_logits(open_context, Selection.all(open_context))
        scores = answer_scores(logits_RAV, context.answer_ids_BA, context.answer_mask_BA)
        (slope_BND,) = torch.autograd.grad(scores.log_prob_R.sum(), visual_BND)
    saliency_BN = (slope_BND * visual_BND.detach()).sum(-1).abs()
    return _normalised(saliency_BN.masked_fill(~context.visual_mask_BN, 0.0))


def leave_group_out(vlm: FrozenVLM, context: Context) -> torch.Tensor:
    """How much the gold answer's log-probability falls when a square group of tokens is dropped, at least 0."""
    full_B = vlm.answer_scores(context).log_prob_R
    block_BN2 = context.grid_BN2 // BLOCK
    columns = int(block_BN2[..., 1].max()) + 1
    group_BN = block_BN2[..., 0] * columns + block_BN2[..., 1]
    loss_BN = torch.zeros_like(group_BN, dtype=torch.float32)
    everything = Selection.all(context)
    for group in range(int(group_BN.max()) + 1):
        dropped_BN = (group_BN == group) & context.visual_mask_BN
        keep = Selection.of(everything.kept_RK, context.visual_mask_BN & ~dropped_BN)
        fall_B = (full_B - vlm.answer_scores(context, keep).log_prob_R).clamp(min=0.0)
        loss_BN += dropped_BN * fall_B[:, None]
    return _normalised(loss_BN)


def _normalised(weights_BN: torch.Tensor) -> torch.Tensor:
    # A prompt that no token matters to gets zeros, and with them no gradient.
    return weights_BN / weights_BN.sum(1, keepdim=True).clamp_min(1e-12)


def sharpened(target_BN: torch.Tensor, sharpness: float) -> torch.Tensor:
    """The distribution proportional to target ** sharpness: above 1 it leans to the tokens that matter most."""
    largest_B1 = target_BN.amax(1, keepdim=True).clamp_min(1e-12)  # lest a flat target vanish in the power
    return _normalised((target_BN / largest_B1) ** sharpness)


TEACHERS: dict[str, Callable[[FrozenVLM, Context], torch.Tensor]] = {
    "attention": attention,
    "gradient": gradient,
    "leave_group_out": leave_group_out,
}
