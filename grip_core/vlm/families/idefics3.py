"""Idefics3 and SmolVLM: the image in tiles, then as a whole, with text between them that says where each tile lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from grip_core.vlm.attention import encoder_attention, record_attention
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class Idefics3VLM(FrozenVLM):
    """transformers' Idefics3ForConditionalGeneration, and SmolVLMForConditionalGeneration, which is alike."""

    @property
    def language_model(self) -> PreTrainedModel:
        return self.model.model.text_model

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected tokens, each of several patches; the attention that these receive together in the encoder's last
        layer, mean over the queries of their tile, and the mean of their keys.

        On the grid the whole image lies below its tiles.
        """
        inputs = self.processor.image_processor(
            images=[[image] for image in images], return_row_col_info=True, return_tensors="pt"
        ).to(self.model.device)
        model = self.model.model
        with record_attention(model.vision_model, "mean", only=encoder_attention(model.vision_model)) as recorder:
            features = self.model.get_image_features(
                inputs["pixel_values"].to(self.model.dtype), inputs["pixel_attention_mask"]
            )
        tiles = [(rows[0], columns[0]) for rows, columns in zip(inputs["rows"], inputs["cols"], strict=True)]
        sizes = [len(image_ND) for image_ND in features.pooler_output]
        attention_XN1, key_XNE = recorder.rows_BT[0][..., None], recorder.keys_BTE[0]
        attention = self._merged(attention_XN1).sum(2).flatten()
        key = self._merged(key_XNE).mean(2).flatten(0, 1)
        return VisualFeatures.padded(
            list(features.pooler_output),
            [self._grid(*place) for place in tiles],
            attention.split(sizes),
            key.split(sizes),
        )

    def _merged(self, patches_XNC: torch.Tensor) -> torch.Tensor:
        """The patches of each token, (tiles, tokens a tile, patches a token, C), by the model's own shuffle."""
        factor = self.model.config.scale_factor
        shuffled = self.model.model.connector.pixel_shuffle(patches_XNC, factor)
        return shuffled.unflatten(-1, (factor**2, patches_XNC.shape[-1]))

    @property
    def _side(self) -> int:
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size // self.model.config.scale_factor

    def _grid(self, rows: int, columns: int) -> torch.Tensor:
        side = torch.arange(self._side)
        places = [(row, column) for row in range(rows) for column in range(columns)]
        tile_N2 = torch.cartesian_prod(side, side).view(-1, 2)
        return torch.cat([tile_N2 + torch.tensor(place) * self._side for place in [*places, (rows, 0)]])

    def layouts(self, features: VisualFeatures) -> list[tuple[int, ...]]:
        """Rows and columns of tiles; 0 and 0 of an image that is in none."""
        found: list[tuple[int, ...]] = []
        for grid_N2, n in zip(features.grid_BN2, features.visual_mask_BN.sum(1).tolist(), strict=True):
            others = n // self._side**2 - 1
            columns = int(grid_N2[:, 1].max()) // self._side + 1 if others else 0
            found.append((others // columns if others else 0, columns))
        return found

    def image_text(self, layout: tuple[int, ...]) -> str:
        """As the family's processor writes it."""
        rows, columns = layout
        fake, seen = "<fake_token_around_image>", self.placeholder * self._side**2
        tiles = "".join(
            "".join(f"{fake}<row_{row + 1}_col_{column + 1}>{seen}" for column in range(columns)) + "\n"
            for row in range(rows)
        )
        return f"{tiles}\n{fake}<global-img>{seen}{fake}" if rows else f"{fake}<global-img>{seen}{fake}"
