"""SparseVLM (Zhang et al. 2024, arXiv 2410.04417), without its recycling of dropped tokens.

The raters are the text tokens after the image that resemble it: with visual tokens v_n and text embeddings t_l as the
language model reads them, R_l = mean over n of softmax_l(v_n . t_l) is at least the mean of all R. At each stage a
visual token's score is the attention that the raters pay it in the layer that has just run, mean over raters and
heads. Published are stages at layers 2, 6 and 15 of 32, and numbers of tokens found by the rank of the attention;
here the stages are at the same parts of the depth, and the numbers fall geometrically to k.
"""

from __future__ import annotations

import torch

from grip_core.baselines.base import InsideBaseline, scaled_layers
from grip_core.vlm.context import Context
from grip_core.vlm.inside import Observed

STAGES = (2 / 32, 6 / 32, 15 / 32)


class SparseVLM(InsideBaseline):
    """See the module. A shallow model, where stages fall together, has fewer of them."""

    name = "sparsevlm"
    label = "SparseVLM (in LLM)"
    query_aware = True

    def layers(self, n_layers: int) -> list[int]:
        return scaled_layers(STAGES, n_layers)

    def scores(self, context: Context, observed: Observed) -> torch.Tensor:
        text_BQ = text_after_image(context)
        ids_BQ = context.input_ids_BT[:, -text_BQ.shape[1] :]
        rater_BQ = raters(context.visual_BND, context.visual_mask_BN, self.vlm.embed(ids_BQ).float(), text_BQ)
        paid_BQN = observed.of_visual(observed.attention(text_BQ.shape[1]))
        rater_BQ = rater_BQ.to(paid_BQN.device)  # of a model that is split over devices, the observed layer's
        # A row of shorter text has other queries here, which may see no key at all and then give NaN.
        paid_BQN = paid_BQN.masked_fill(~rater_BQ[..., None], 0.0)
        return paid_BQN.sum(1) / rater_BQ.sum(1, keepdim=True)


def text_after_image(context: Context) -> torch.Tensor:
    """Which of a prompt's last Q tokens follow its image, (B, Q); Q is the longest such text of the batch."""
    last_B1 = context.visual_slot_BN.masked_fill(~context.visual_mask_BN, -1).amax(1, keepdim=True)
    after_BT = torch.arange(context.input_ids_BT.shape[1], device=last_B1.device) > last_B1
    return after_BT[:, -int(after_BT.sum(1).max()) :]


def raters(visual_BND, visual_mask_BN, text_BQD, text_mask_BQ) -> torch.Tensor:
    """Text tokens that resemble the visual tokens at least as much as the mean text token does, (B, Q)."""
    dot_BNQ = (visual_BND @ text_BQD.transpose(1, 2)).masked_fill(~text_mask_BQ[:, None], float("-inf"))
    similarity_BQ = (dot_BNQ.softmax(-1) * visual_mask_BN[..., None]).sum(1) / visual_mask_BN.sum(1, keepdim=True)
    # The mean of what sums to 1; the largest is never less, but may round to it.
    mean_B1 = 1.0 / text_mask_BQ.sum(1, keepdim=True)
    return (similarity_BQ >= mean_B1.minimum(similarity_BQ.amax(1, keepdim=True))) & text_mask_BQ
