"""Training of the embedded VLM, fast enough for two CPU cores.

Three things make it train in minutes instead of staying on a plateau: many questions are packed behind one image (they see
the image but not each other, and their positions restart), the vision tower gets auxiliary targets per patch, and the tower
is trained on those alone for the first steps.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from grip_core.data.examples import Example, Split
from grip_core.files import atomic_file, write_text
from grip_core.vlm.embedded import GRID, PATCH, TEMPLATE
from grip_core.vlm.patch_labels import IGNORED, PatchLabeller


@dataclass(frozen=True)
class Packed:
    """Questions packed behind one image each; S is the length of the packed text."""

    ids_BS: torch.Tensor
    labels_BS: torch.Tensor
    """The next token where it is an answer or the end, else IGNORED."""
    positions_BS: torch.Tensor
    segment_BS: torch.Tensor
    """Which question a token belongs to; -1 for padding."""


@dataclass
class Batch:
    pixels_BCHW: torch.Tensor
    packed: Packed
    labels: object


class Packer:
    """Packs examples' texts. The text of one question follows the template after the image."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        before, after = TEMPLATE.split("<image>")
        self.prefix = tokenizer(before, add_special_tokens=False).input_ids
        self.after = after
        self.eos = tokenizer.eos_token_id
        self.memo: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def __call__(self, groups: Sequence[Sequence[Example]], first_position: int) -> Packed:
        rows = [[self._encode(example) for example in group] for group in groups]
        length = max(sum(len(ids) for ids, _ in row) for row in rows)
        ids = np.zeros((len(rows), length), np.int64)
        labels = np.full((len(rows), length), IGNORED, np.int64)
        positions = np.zeros((len(rows), length), np.int64)
        segment = np.full((len(rows), length), -1, np.int64)
        for b, row in enumerate(rows):
            start = 0
            for number, (text, targets) in enumerate(row):
                stop = start + len(text)
                ids[b, start:stop] = text
                labels[b, start:stop] = targets
                positions[b, start:stop] = first_position + np.arange(len(text))
                segment[b, start:stop] = number
                start = stop
        return Packed(*(torch.from_numpy(array) for array in (ids, labels, positions, segment)))

    def _encode(self, example: Example) -> tuple[list[int], list[int]]:
        key = (example.question, example.answer)
        if key not in self.memo:
            question = self.tokenizer(self.after.format(question=example.question), add_special_tokens=False).input_ids
            answer = self.tokenizer(example.answer, add_special_tokens=False).input_ids
            labels = [IGNORED] * (len(question) - 1) + answer + [self.eos]
            self.memo[key] = (question + answer, labels)
        return self.memo[key]


def attention_mask(packed: Packed, n_visual: int, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask (B, 1, T, T): causal, questions blind to each other, every question sees prefix and image."""
    batch, length = packed.segment_BS.shape
    image = torch.full((batch, n_visual), -2)
    segment_BT = torch.cat([image, packed.segment_BS], dim=1)
    total = n_visual + length
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    same = segment_BT[:, :, None] == segment_BT[:, None, :]
    allowed = causal & (same | (segment_BT == -2)[:, None, :])
    return torch.zeros(batch, 1, total, total, dtype=dtype).masked_fill(~allowed[:, None], torch.finfo(dtype).min)


class PatchHeads(nn.Module):
    """Linear read-outs for the auxiliary targets; thrown away after training."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.object = nn.Linear(width, n_classes)
        self.row = nn.Linear(width, GRID)
        self.column = nn.Linear(width, GRID)
        self.nearest = nn.Linear(width, n_classes)
        self.furthest = nn.Linear(width, n_classes)
        self.present = nn.Linear(width, n_classes)

    def loss(self, hidden_BND: torch.Tensor, pooled_BD: torch.Tensor, labels) -> dict[str, torch.Tensor]:
        losses = {}
        for name in ("object", "row", "column", "nearest", "furthest"):
            target = torch.from_numpy(getattr(labels, f"{name}_BN")).flatten()
            logits = getattr(self, name)(hidden_BND).flatten(0, 1).float()
            if (target != IGNORED).any():
                losses[name] = F.cross_entropy(logits, target, ignore_index=IGNORED)
        losses["present"] = F.binary_cross_entropy_with_logits(
            self.present(pooled_BD).float(), torch.from_numpy(labels.present_BC)
        )
        return losses
