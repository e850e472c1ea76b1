"""Qwen2.5-VL and Qwen3-VL: images of any size, merged patches, and rotary positions with three axes (time, row,
column)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers.vision_utils import get_vision_window_index

from grip_core.vlm.attention import record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class Qwen3VLM(FrozenVLM):
    """transformers' Qwen3VLForConditionalGeneration. Its first decoder layers add to the visual tokens (DeepStack)."""

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Merged tokens, padded at the right to the largest image; the attention that each receives, and its key.

        The encoder has no CLS token. A token's attention is what its patches receive in the last block that attends
        over the whole image, mean over queries and heads, summed over the patches: over an image it sums to 1. Its key
        is the mean over the patches in the same block, after the rotary positions, which are all that the attention is
        given: unlike CLIP's, it also says where the token lies.
        """
        inputs = self.processor.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        patches_B3 = inputs["image_grid_thw"]
        tower = self.model.model.visual
        with record_attention(tower, "mean", only=tower.blocks[self.last_full_block].attn) as recorder:
            features = self.model.get_image_features(inputs["pixel_values"], patches_B3)
        tokens = list(features.pooler_output)
        sizes = [len(image_ND) for image_ND in tokens]
        # Inside the encoder a merged token's patches lie side by side.
        unit = tower.spatial_merge_size**2
        order_N = self.token_order(patches_B3)
        attention = torch.cat(list(recorder.rows_BT.values()), dim=1).view(-1, unit).sum(1)[order_N]
        key = torch.cat(list(recorder.keys_BTE.values()), dim=1)[0].unflatten(0, (-1, unit)).mean(1)[order_N]
        grid = [
            torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)
            for _, height, width in (patches_B3 // patches_B3.new_tensor([1, *[tower.spatial_merge_size] * 2])).tolist()
        ]
        layers = getattr(features, "deepstack_features", None)
        deep = None if layers is None else [torch.stack(parts, dim=1) for parts in zip(*layers, strict=True)]
        return VisualFeatures.padded(tokens, grid, attention.split(sizes), key.split(sizes), deep)

    @property
    def last_full_block(self) -> int:
        """The last block of the encoder that attends over the whole image."""
        return len(self.model.model.visual.blocks) - 1

    def token_order(self, patches_B3: torch.Tensor) -> torch.Tensor:
        """Where in the encoder's order each merged token lies."""
        merged = patches_B3.prod(1) // self.model.model.visual.spatial_merge_size**2
        return torch.arange(int(merged.sum()), device=patches_B3.device)

    def prompt_positions(self, input_ids_BT, attention_mask_BT, features) -> torch.Tensor:
        height_width_B2 = (features.grid_BN2.amax(1) + 1) * self.model.model.visual.spatial_merge_size
        patches_B3 = torch.cat([torch.ones_like(height_width_B2[:, :1]), height_width_B2], dim=1)
        positions_PBT, _ = self.model.model.get_rope_index(
            input_ids_BT,
            mm_token_type_ids=(input_ids_BT == self.image_token_id).int(),
            image_grid_thw=patches_B3,
            attention_mask=attention_mask_BT,
        )
        return positions_PBT


class Qwen25VLM(Qwen3VLM):
    """transformers' Qwen2_5_VLForConditionalGeneration: most blocks of its encoder see a window."""

    @property
    def last_full_block(self) -> int:
        return max(self.model.model.visual.fullatt_block_indexes)

    def token_order(self, patches_B3: torch.Tensor) -> torch.Tensor:
        """Its patches lie in the order of the windows."""
        tower = self.model.model.visual
        index, _ = get_vision_window_index(patches_B3, tower.spatial_merge_size, tower.window_size, tower.patch_size)
        return index.to(patches_B3.device).argsort()
