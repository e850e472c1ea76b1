"""Gemma 3: image tokens read each other in both directions, and most layers see a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.vlm.assemble import Assembled
from grip_core.vlm.attention import as_read, encoder_attention, record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class Gemma3VLM(FrozenVLM):
    """transformers' Gemma3ForConditionalGeneration, the image as a whole (without pan and scan)."""

    windows_by_position = True

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected tokens, each pooled from a square of patches; the attention that these receive together in the
        encoder's last layer, mean over queries, and the mean of their keys."""
        inputs = self.processor.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        model = self.model.model
        with record_attention(model.vision_tower, "mean", only=encoder_attention(model.vision_tower)) as recorder:
            visual_BND = self.model.get_image_features(inputs["pixel_values"].to(self.model.dtype)).pooler_output
        projector = model.multi_modal_projector
        side, kernel = projector.tokens_per_side, projector.kernel_size
        square = (side, kernel, side, kernel)
        attention_BN = recorder.rows_BT[0].unflatten(1, square).sum((2, 4)).flatten(1)
        key_BNE = recorder.keys_BTE[0].unflatten(1, square).mean((2, 4)).flatten(1, 2)
        grid_N2 = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(visual_BND.device)
        return VisualFeatures(
            visual_BND,
            torch.ones(visual_BND.shape[:2], dtype=torch.bool, device=visual_BND.device),
            grid_N2.expand(len(visual_BND), -1, -1),
            attention_BN,
            key_BNE,
        )

    def prompt_mask(self, inputs: Assembled, new: int) -> dict[str, torch.Tensor]:
        """One mask for each kind of layer. The window is counted in positions: where tokens have been dropped, it is
        still that of the full prompt."""
        total = inputs.attention_mask_RS.shape[1]
        index_S = torch.arange(total, device=inputs.attention_mask_RS.device)
        query_Q, visual_RS = index_S[-new:], inputs.is_visual_RS
        sees_RQS = query_Q[:, None] >= index_S
        sees_RQS = sees_RQS | (visual_RS[:, -new:, None] & visual_RS[:, None])
        # What pads reads itself: a softmax over nothing would give NaN.
        itself_QS = query_Q[:, None] == index_S
        full_RQS = (sees_RQS & inputs.attention_mask_RS[:, None]) | itself_QS
        position_RS = inputs.positions_PRS[0]
        window = self.language_model.config.sliding_window
        near_RQS = position_RS[:, None] > position_RS[:, -new:, None] - window
        return {
            "full_attention": as_read(full_RQS[:, None], self.language_model),
            "sliding_attention": as_read(((full_RQS & near_RQS) | itself_QS)[:, None], self.language_model),
        }
