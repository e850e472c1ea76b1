"""What training asks of a frozen VLM, whichever process holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import AnswerScores, VisualFeatures


class AnsweringVLM(Protocol):
    """Prompts, and how the model takes to their answers; see FrozenVLM, which is one, and RemoteVLM."""

    @property
    def device(self) -> torch.device:
        """Where a context's tensors lie."""

    @property
    def setup(self) -> dict[str, str]:
        """By what a scorer that is trained with it is to be used: its path, its prompt's template, its positions."""

    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Visual tokens of images that are in no cache."""

    def context(self, features: VisualFeatures, questions: Sequence[str], answers: Sequence[str]) -> Context:
        """Prompts from visual tokens that are already computed."""

    def answer_scores(
        self, context: Context, selection: Selection | None = None, with_kl: bool = False
    ) -> AnswerScores:
        """Scores of the gold answer for every row of `selection`."""
