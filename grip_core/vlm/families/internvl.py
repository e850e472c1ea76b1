"""InternVL: the image in tiles, then as a whole, all of them one sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from grip_core.vlm.attention import encoder_attention, record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class InternVLM(FrozenVLM):
    """transformers' InternVLForConditionalGeneration."""

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected tokens, each of several patches; the attention that these get together from the CLS token of their
        tile, and the mean of their keys. On the grid the whole image lies below its tiles."""
        process = self.processor.image_processor
        inputs = process(images=list(images), crop_to_patches=True, return_tensors="pt").to(self.model.device)
        model, config = self.model.model, self.model.config
        one = encoder_attention(model.vision_tower, config.vision_feature_layer)
        with record_attention(model.vision_tower, "first", only=one) as recorder:
            features = self.model.get_image_features(inputs["pixel_values"].to(self.model.dtype))
        counts = inputs["num_patches"].tolist()
        attention_XN1 = self._merged(recorder.rows_BT[0][:, 1:, None]).sum(2)
        key_XNE = self._merged(recorder.keys_BTE[0][:, 1:]).mean(2)
        side = int(attention_XN1.shape[1] ** 0.5)
        tile_N2 = torch.cartesian_prod(torch.arange(side), torch.arange(side)).view(-1, 2)
        grid = []
        for image, count in zip(images, counts, strict=True):
            columns, rows = _tiles(process, image) if count > 1 else (0, 0)
            places = [(row, column) for row in range(rows) for column in range(columns)]
            grid.append(torch.cat([tile_N2 + torch.tensor(place) * side for place in [*places, (rows, 0)]]))
        return VisualFeatures.padded(
            [tiles_XND.flatten(0, 1) for tiles_XND in features.pooler_output.split(counts)],
            grid,
            [tiles.flatten() for tiles in attention_XN1.split(counts)],
            [tiles.flatten(0, 1) for tiles in key_XNE.split(counts)],
        )

    def _merged(self, patches_XNC: torch.Tensor) -> torch.Tensor:
        """The patches of each token, (tiles, tokens a tile, patches a token, C), by the model's own shuffle."""
        side = int(patches_XNC.shape[1] ** 0.5)
        ratio = self.model.config.downsample_ratio
        shuffled = self.model.model.pixel_shuffle(patches_XNC.unflatten(1, (side, side)), ratio)
        return shuffled.flatten(1, 2).unflatten(-1, (round(ratio**-2), patches_XNC.shape[-1]))


def _tiles(process, image: np.ndarray) -> tuple[int, int]:
    """Columns and rows of the tiles that the processor makes of an image."""
    size = (process.size["height"], process.size["width"])
    return get_optimal_tiled_canvas(image.shape[:2], size, process.min_patches, process.max_patches)
