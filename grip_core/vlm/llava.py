"""LLaVA-1.5 and its kin: a CLIP-style tower, a projector, a Llama-style decoder with ordinary positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.vlm.attention import record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class LlavaVLM(FrozenVLM):
    """transformers' LlavaForConditionalGeneration."""

    @property
    def language_model(self):
        return self.model.model.language_model

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_index

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray]) -> VisualFeatures:
        """Projected tokens; the CLS token's attention and the keys in the layer whose output is projected."""
        pixels = self.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        tower = self.model.model.vision_tower
        with record_attention(tower, "first") as recorder:
            features = self.model.get_image_features(pixel_values=pixels.to(self.model.device, self.model.dtype))
        visual_BND = torch.stack(list(features.pooler_output))
        layer = self.model.config.vision_feature_layer
        batch, n = visual_BND.shape[:2]
        side = int(n**0.5)
        grid = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(visual_BND.device)
        # hidden_states[-1] is the output of the last layer; counted from the front, hidden_states[0] is the embeddings.
        call = layer % len(recorder.rows_BT) if layer < 0 else layer - 1
        return VisualFeatures(
            visual_BND,
            torch.ones(batch, n, dtype=torch.bool, device=visual_BND.device),
            grid.expand(batch, -1, -1),
            recorder.rows_BT[call][:, -n:],
            recorder.keys_BTE[call][:, -n:],
        )

    def prompt_positions(self, input_ids_BT, attention_mask_BT, features) -> torch.Tensor:
        return (attention_mask_BT.long().cumsum(1) - 1).clamp(min=0)[None]
