"""Text similarity: the tokens that resemble a word of the question most."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from grip_core.baselines.base import ScoreBaseline
from grip_core.vlm.context import Context


class TextSimilarity(ScoreBaseline):
    """score_n = max over the question's tokens l of cos(v_n, q_l), in the language model's embedding space."""

    name = "text_similarity"
    label = "Text similarity"
    query_aware = True

    def scores(self, context: Context) -> torch.Tensor:
        visual_BND = F.normalize(context.visual_BND.float(), dim=-1)
        question_BLD = F.normalize(context.question_BLD.float(), dim=-1)
        cosine_BNL = visual_BND @ question_BLD.transpose(1, 2)
        return cosine_BNL.masked_fill(~context.question_mask_BL[:, None], float("-inf")).amax(-1)
