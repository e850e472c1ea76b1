"""Selections in, the frozen VLM's scores out: a few large forwards for all B x G of them."""

from __future__ import annotations

import torch

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import AnswerScores, FrozenVLM

ROWS_PER_FORWARD = 128  # larger batches fall out of the CPU's cache, smaller ones starve its cores


def score_selections(
    vlm: FrozenVLM, context: Context, selection_BGK: torch.Tensor, mask_BK: torch.Tensor
) -> AnswerScores:
    """Scores of every selection, as (B * G,) in the order of `selection_BGK`.

    Rows of similar budgets share a forward, so that a row with few tokens is not padded to one with many.
    """
    batch, group, _ = selection_BGK.shape
    prompt_R = torch.arange(batch, device=selection_BGK.device).repeat_interleave(group)
    kept_RK, mask_RK = selection_BGK.flatten(0, 1), mask_BK[prompt_R]
    order_R = mask_RK.sum(1).argsort(stable=True)
    scores = []
    for rows in order_R.split(ROWS_PER_FORWARD):
        width = int(mask_RK[rows[-1]].sum())
        part = Selection.of(kept_RK[rows, :width], mask_RK[rows, :width])
        scores.append(vlm.answer_scores(context, Selection(part.kept_RK, part.mask_RK, prompt_R[rows])))
    back_R = order_R.argsort()
    return AnswerScores(
        torch.cat([item.log_prob_R for item in scores])[back_R], torch.cat([item.correct_R for item in scores])[back_R]
    )
