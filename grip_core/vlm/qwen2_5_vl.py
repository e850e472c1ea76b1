"""Qwen2.5-VL: images of any size, merged patches, and rotary positions with three axes (time, row, column)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


class Qwen25VLM(FrozenVLM):
    """transformers' Qwen2_5_VLForConditionalGeneration."""

    @property
    def language_model(self):
        return self.model.model.language_model

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id
