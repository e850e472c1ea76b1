"""The feature cache: what is frozen is computed once and read from memory-mapped files.

A folder holds one split of one benchmark: `visual.npy` (images, N, D), `encoder_attention.npy` (images, N), `grid.npy`
(N, 2), and `examples.parquet` with the questions and what the full model and the model without the image make of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from grip_core.files import atomic_file
from grip_core.vlm.context import Context
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures


@dataclass(frozen=True)
class FeatureStore:
    """Cached features of examples. `table` has a row per example: id, image_id, question, answer, kind, benchmark, split,
    full_log_prob, full_correct, blind_log_prob, blind_correct, and `image_row`, its row in `visual`."""

    table: pd.DataFrame
    visual: list[np.ndarray]
    """One memory-mapped array (images, N, D) a source; `table.source` says which."""
    encoder_attention: list[np.ndarray]
    grid_N2: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def subset(self, index: Sequence[int] | np.ndarray) -> FeatureStore:
        """The examples `index` names, over the same arrays."""
        table = self.table.iloc[index].reset_index(drop=True)
        return FeatureStore(table, self.visual, self.encoder_attention, self.grid_N2)

    def context(self, vlm: FrozenVLM, index: Sequence[int] | np.ndarray) -> Context:
        """Prompts for the examples `index` names (positions in the table)."""
        rows = self.table.iloc[index]
        place = list(zip(rows["source"], rows["image_row"], strict=True))
        visual = np.stack([self.visual[source][row] for source, row in place])
        attention = np.stack([self.encoder_attention[source][row] for source, row in place])
        batch, n, _ = visual.shape
        features = VisualFeatures(
            torch.from_numpy(visual).to(vlm.model.device),
            torch.ones(batch, n, dtype=torch.bool, device=vlm.model.device),
            torch.from_numpy(self.grid_N2).to(vlm.model.device).expand(batch, -1, -1),
            torch.from_numpy(attention).to(vlm.model.device),
        )
        return vlm.context(features, rows["question"].tolist(), rows["answer"].tolist())
