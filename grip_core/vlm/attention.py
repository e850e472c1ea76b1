"""Attention rows and keys of a running model, for methods that rank or compare tokens by them.

The model keeps its fused attention; one extra product per recorded layer gives the wanted row after the rotary
positions, so nothing of size T x T is ever kept. Works for every transformers model that calls its attention by name.
The letter E is the width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grip_recorded"
CHUNK = 1024  # queries whose weights are held at once for a mean over all of them


@dataclass
class Recorder:
    """Collects per call the keys and one row of attention weights: of the first query, the last, or the mean over them.

    The mean is for encoders without padding: a query that sees no key at all would make it NaN.
    """

    query: str
    only: torch.nn.Module | None = None
    """Record the calls of this attention module alone."""
    rows_BT: dict[int, torch.Tensor] = field(default_factory=dict)
    """Call, in order -> weights averaged over heads, (B, T). Most models call once a layer."""
    keys_BTE: dict[int, torch.Tensor] = field(default_factory=dict)
    """Call, in order -> keys averaged over heads, (B, T, E), as the attention takes them: after rotary positions."""

    def record(self, module, query, key, mask, scaling) -> None:
        if self.only is not None and module is not self.only:
            return
        query = query.detach()
        self.keys_BTE[len(self.keys_BTE)] = key.detach().float().mean(dim=1)
        key = key.detach()
        if self.query != "mean":
            place = slice(0, 1) if self.query == "first" else slice(query.shape[2] - 1, None)
            query, mask = query[:, :, place], None if mask is None else mask[:, :, place]
        total_BT = torch.zeros(query.shape[0], key.shape[2], device=key.device)
        for start in range(0, query.shape[2], CHUNK):
            part = slice(start, start + CHUNK)
            logits = attention_logits(query[:, :, part], key, None if mask is None else mask[:, :, part], scaling)
            total_BT += logits.softmax(dim=-1).mean(dim=1).sum(dim=1)
        self.rows_BT[len(self.rows_BT)] = total_BT / query.shape[2]


def attention_logits(query_BHQE, key_BGSE, mask_B1QS: torch.Tensor | None, scaling: float) -> torch.Tensor:
    """What the softmax of an attention is taken of, float32 (B, H, Q, S); G key heads serve H query heads.

    `mask` is True where a key is seen, or a number that is added; None leaves every key.
    """
    key_BHSE = key_BGSE.repeat_interleave(query_BHQE.shape[1] // key_BGSE.shape[1], dim=1)
    # Of a product in bfloat16 many would be equal, and methods that rank tokens would take the first ones.
    logits_BHQS = (query_BHQE.float() @ key_BHSE.float().transpose(-1, -2)) * scaling
    if mask_B1QS is None:
        return logits_BHQS
    if mask_B1QS.dtype == torch.bool:
        return logits_BHQS.masked_fill(~mask_B1QS, float("-inf"))
    return logits_BHQS + mask_B1QS


Observer = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor | None, float], None]
"""Is called with an attention module, its queries and keys after rotary positions, its mask and its scaling."""
_active: list[Observer] = []


def _recorded_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    _active[-1](module, query, key, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


AttentionInterface.register(NAME, _recorded_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


Item = TypeVar("Item")


@contextmanager
def swap_attention(model: PreTrainedModel, name: str, stack: list[Item], item: Item) -> Iterator[None]:
    """While the block runs, `model` attends by the function registered as `name`, which finds `item` on its `stack`."""
    before = model.config._attn_implementation
    stack.append(item)
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        model.set_attn_implementation(before)
        stack.pop()


def observe_attention(model: PreTrainedModel, observer: Observer) -> AbstractContextManager[None]:
    """Show `observer` every attention of `model` while the block runs."""
    return swap_attention(model, NAME, _active, observer)


@contextmanager
def record_attention(model: PreTrainedModel, query: str, only: torch.nn.Module | None = None) -> Iterator[Recorder]:
    """Record every attention layer of `model`, or one, while the block runs. `query`: "first", "last" or "mean"."""
    recorder = Recorder(query, only)
    with observe_attention(model, recorder.record):
        yield recorder
