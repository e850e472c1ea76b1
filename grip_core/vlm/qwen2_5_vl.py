"""Qwen2.5-VL: images of any size, merged patches, and rotary positions with three axes (time, row, column)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.vision_utils import get_vision_window_index

from grip_core.vlm.attention import record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class Qwen25VLM(FrozenVLM):
    """transformers' Qwen2_5_VLForConditionalGeneration."""

    @property
    def language_model(self):
        return self.model.model.language_model

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray]) -> VisualFeatures:
        """Merged tokens, padded at the right to the largest image; the attention that each receives, and its key.

        The encoder has no CLS token. A token's attention is what its patches receive in the last block that attends
        over the whole image (the others see a window), mean over queries and heads, summed over the patches: over an
        image it sums to 1. Its key is the mean over the patches in the same block, after the rotary positions, which
        are all that the attention is given: unlike CLIP's, it also says where the token lies.
        """
        inputs = self.processor.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        patches_B3 = inputs["image_grid_thw"]
        tower = self.model.model.visual
        last_full = tower.blocks[max(tower.fullatt_block_indexes)].attn
        with record_attention(tower, "mean", only=last_full) as recorder:
            features = self.model.get_image_features(inputs["pixel_values"], patches_B3)
        tokens = list(features.pooler_output)
        sizes = [len(image_ND) for image_ND in tokens]
        # Inside the encoder patches lie in the order of the windows, a merged token's patches side by side.
        window_index, _ = get_vision_window_index(
            patches_B3, tower.spatial_merge_size, tower.window_size, tower.patch_size
        )
        original = window_index.to(self.model.device).argsort()
        attention = (
            torch.cat(list(recorder.rows_BT.values()), dim=1).view(-1, tower.spatial_merge_unit).sum(1)[original]
        )
        keys = torch.cat(list(recorder.keys_BTE.values()), dim=1)[0].unflatten(0, (-1, tower.spatial_merge_unit))
        key = keys.mean(1)[original]
        grid = [
            torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)
            for _, height, width in (patches_B3 // patches_B3.new_tensor([1, *[tower.spatial_merge_size] * 2])).tolist()
        ]
        device = self.model.device
        return VisualFeatures(
            pad_sequence(tokens, batch_first=True),
            torch.arange(max(sizes), device=device) < torch.tensor(sizes, device=device)[:, None],
            pad_sequence(grid, batch_first=True).to(device),
            pad_sequence(list(attention.split(sizes)), batch_first=True),
            pad_sequence(list(key.split(sizes)), batch_first=True),
        )

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
