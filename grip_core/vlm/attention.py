"""Attention rows of a running model, for methods that rank tokens by them.

The model keeps its fused attention; one extra product per recorded layer gives the wanted row after the rotary positions,
so nothing of size T x T is ever kept. Works for every transformers model that calls its attention by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grip_recorded"


@dataclass
class Recorder:
    """Collects one row of attention weights per layer: of the first query, of the last, or the mean over queries."""

    query: str
    rows_BT: dict[int, torch.Tensor] = field(default_factory=dict)
    """Layer index, in calling order -> weights averaged over heads, (B, T)."""

    def record(self, query, key, mask, scaling) -> None:
        query = query.detach()
        key = key.detach()
        if self.query == "first":
            query, mask = query[:, :, :1], None if mask is None else mask[:, :, :1]
        elif self.query == "last":
            query, mask = query[:, :, -1:], None if mask is None else mask[:, :, -1:]
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        logits = (query @ key.transpose(-1, -2)).float() * scaling
        if mask is not None:
            logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
        self.rows_BT[len(self.rows_BT)] = logits.softmax(dim=-1).mean(dim=(1, 2))


_active: list[Recorder] = []


def _recorded_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    _active[-1].record(query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


AttentionInterface.register(NAME, _recorded_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def record_attention(model: PreTrainedModel, query: str) -> Iterator[Recorder]:
    """Record every attention layer of `model` while the block runs. `query`: "first", "last" or "mean"."""
    before = model.config._attn_implementation
    recorder = Recorder(query)
    _active.append(recorder)
    model.set_attn_implementation(NAME)
    try:
        yield recorder
    finally:
        model.set_attn_implementation(before)
        _active.pop()
