"""LLaVA-1.5 and its kin: a CLIP-style tower, a projector, a Llama-style decoder with ordinary positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.vlm.attention import encoder_attention, record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class LlavaVLM(FrozenVLM):
    """transformers' LlavaForConditionalGeneration."""

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected tokens; the CLS token's attention, or all tokens' in a tower without one, and the keys in the
        layer whose output is projected."""
        pixels = self.processor.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        tower = self.model.model.vision_tower
        one = encoder_attention(tower, self.model.config.vision_feature_layer)
        # "default" leaves the CLS token out, and "full" is of towers that have none.
        query = "first" if self.model.config.vision_feature_select_strategy == "default" else "mean"
        with record_attention(tower, query, only=one) as recorder:
            features = self.model.get_image_features(pixel_values=pixels.to(self.model.device, self.model.dtype))
        visual_BND = torch.stack(list(features.pooler_output))
        batch, n = visual_BND.shape[:2]
        side = int(n**0.5)
        grid = torch.cartesian_prod(torch.arange(side), torch.arange(side)).to(visual_BND.device)
        return VisualFeatures(
            visual_BND,
            torch.ones(batch, n, dtype=torch.bool, device=visual_BND.device),
            grid.expand(batch, -1, -1),
            recorder.rows_BT[0][:, -n:],
            recorder.keys_BTE[0][:, -n:],
        )
