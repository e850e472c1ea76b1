"""Selections in, the frozen VLM's scores out: a few large forwards for all B x G of them."""

from __future__ import annotations

import torch

from grip_core.policy.distribution import Picks
from grip_core.rl.processes import n_sharing, shared_out
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import ROWS_PER_FORWARD, AnswerScores
from grip_core.vlm.protocol import AnsweringVLM


def score_selections(
    vlm: AnsweringVLM, context: Context, picks: Picks, with_kl: bool = False, rows_per_forward: int = ROWS_PER_FORWARD
) -> AnswerScores:
    """Scores of every selection, as (B * G,) in the order of `picks`.

    Rows of similar budgets share a forward, so that a row with few tokens is not padded to one with many.
    """
    batch, group, _ = picks.index_BGK.shape
    kept_RK, mask_RK = (part.flatten(0, 1).to(vlm.device) for part in (picks.index_BGK, picks.mask_BGK))
    prompt_R = torch.arange(batch, device=vlm.device).repeat_interleave(group)
    order_R = mask_RK.sum(1).argsort(stable=True)
    rows_per_forward = min(rows_per_forward, -(-len(order_R) // n_sharing()))

    def answer(rows: torch.Tensor) -> AnswerScores:
        width = int(mask_RK[rows[-1]].sum())
        part = Selection.of(kept_RK[rows, :width], mask_RK[rows, :width])
        return vlm.answer_scores(context, Selection(part.kept_RK, part.mask_RK, prompt_R[rows]), with_kl)

    scores = shared_out(order_R.split(rows_per_forward), answer, vlm.device)
    back_R = order_R.argsort()
    return AnswerScores(
        torch.cat([item.log_prob_R for item in scores])[back_R],
        torch.cat([item.correct_R for item in scores])[back_R],
        torch.cat([item.kl_R for item in scores if item.kl_R is not None])[back_R] if with_kl else None,
    )
