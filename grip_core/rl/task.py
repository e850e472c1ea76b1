"""What a run trains for, and on which of its questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grip_core.config import FilterConfig
from grip_core.policy.scorer import Scorer
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.protocol import AnsweringVLM


@dataclass(frozen=True)
class Task:
    """What a run trains for: the VLM's answers to the cached questions, from the warm-up on and anchored to it.

    The warm-up moves to where the VLM lies.
    """

    vlm: AnsweringVLM
    store: FeatureStore
    warmup: Scorer

    def __post_init__(self) -> None:
        self.warmup.to(self.vlm.device)


def carries_signal(store: FeatureStore, config: FilterConfig) -> np.ndarray:
    """Which examples may be trained on, bool (examples,)."""
    table = store.table
    kept = np.ones(len(table), dtype=bool)
    if config.answered_without_image:
        kept &= ~table["blind_correct"].to_numpy()
    if config.failed_with_all_tokens:
        kept &= table["full_correct"].to_numpy()
    return kept
