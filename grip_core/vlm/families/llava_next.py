"""LLaVA-NeXT: an overview of the image, then the image in tiles at the resolution that suits it, row after row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from grip_core.vlm.attention import encoder_attention, record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class LlavaNextVLM(FrozenVLM):
    """transformers' LlavaNextForConditionalGeneration. The tokens that end its rows are visual tokens as well."""

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected tokens; the CLS token's attention and the keys, each in the token's own tile.

        On the grid the overview lies above the tiles. A row's end has no attention and no key: they are 0.
        """
        inputs = self.processor.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        model, config = self.model.model, self.model.config
        one = encoder_attention(model.vision_tower, config.vision_feature_layer)
        with record_attention(model.vision_tower, "first", only=one) as recorder:
            features = self.model.get_image_features(inputs["pixel_values"].to(self.model.dtype), inputs["image_sizes"])
        side = config.vision_config.image_size // config.vision_config.patch_size
        row_XN, key_XNE = recorder.rows_BT[0][:, -(side**2) :], recorder.keys_BTE[0][:, -(side**2) :]
        # The model's own packing brings them into the order of the tokens; the mark is 0 at a row's end.
        marked_XNC = torch.cat([torch.ones_like(row_XN)[..., None], row_XN[..., None], key_XNE], dim=-1)
        tiles = [
            image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)
            for size in inputs["image_sizes"]
        ]
        packed, _ = model.pack_image_features(
            marked_XNC.split(tiles),
            inputs["image_sizes"],
            config.vision_feature_select_strategy,
            marked_XNC.new_zeros(marked_XNC.shape[2]),
        )
        return VisualFeatures.padded(
            list(features.pooler_output),
            [_grid(side, image_NC[:, 0] == 0) for image_NC in packed],
            [image_NC[:, 1] for image_NC in packed],
            [image_NC[:, 2:] for image_NC in packed],
        )


def _grid(side: int, ends_N: torch.Tensor) -> torch.Tensor:
    """Rows and columns: of the overview, then below it of the tiles together, whose rows are of one length."""
    rows = int(ends_N.sum())
    overview = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    if not rows:  # of an image that is so long that the tiles have none of it
        return overview
    width = (len(ends_N) - side**2) // rows
    below = torch.cartesian_prod(torch.arange(side, side + rows), torch.arange(width))
    return torch.cat([overview, below.view(-1, 2)])
