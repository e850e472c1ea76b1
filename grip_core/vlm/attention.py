"""Attention rows and keys of a running model, for methods that rank or compare tokens by them.

The model keeps its fused attention; one extra product per recorded layer gives the wanted row after the rotary
positions, so nothing of size T x T is ever kept. Works for every transformers model that calls its attention by name.
The letter E is the width of a head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

NAME = "grip_recorded"
CHUNK = 1024  # queries whose weights are held at once for a mean over all of them
LAYER = re.compile(r"\.layers?\.\d+\.(self_attn|attention)$")
WEIGHTS = 2**28  # of them, over heads, queries and keys: a gigabyte


@dataclass
class Recorder:
    """Collects per call the keys and one row of attention weights: of the first query, the last, or the mean over them.

    The mean is for encoders without padding: a query that sees no key at all would make it NaN.
    """

    query: str
    only: torch.nn.Module | None = None
    """Record the calls of this attention module alone."""
    first: int | None = None
    """Of the mean, count this many queries alone."""
    with_keys: bool = True
    rows_BT: dict[int, torch.Tensor] = field(default_factory=dict)
    """Call, in order -> weights averaged over heads, (B, T). Most models call once a layer."""
    keys_BTE: dict[int, torch.Tensor] = field(default_factory=dict)
    """Call, in order -> keys averaged over heads, (B, T, E), as the attention takes them: after rotary positions."""

    def record(self, module, query, key, mask, scaling) -> None:
        if self.only is not None and module is not self.only:
            return
        query = query.detach()
        if self.with_keys:
            self.keys_BTE[len(self.keys_BTE)] = key.detach().float().mean(dim=1)
        key = key.detach()
        last = slice(query.shape[2] - 1, None)
        place = {"first": slice(0, 1), "last": last, "mean": slice(0, self.first)}[self.query]
        query, mask = query[:, :, place], None if mask is None else mask[:, :, place]
        weights = query.shape[1] * min(CHUNK, query.shape[2]) * key.shape[2]
        at_once = max(1, WEIGHTS // weights)
        parts = []
        for start in range(0, query.shape[0], at_once):
            rows = slice(start, start + at_once)
            own = mask if mask is None or len(mask) == 1 else mask[rows]
            parts.append(self._mean(query[rows], key[rows], own, scaling))
        self.rows_BT[len(self.rows_BT)] = torch.cat(parts)

    def _mean(self, query, key, mask, scaling) -> torch.Tensor:
        """Mean over the queries and heads, (B, T); of few queries at once, for their weights are many."""
        total_BT = torch.zeros(query.shape[0], key.shape[2], device=key.device)
        for start in range(0, query.shape[2], CHUNK):
            part = slice(start, start + CHUNK)
            logits = attention_logits(query[:, :, part], key, None if mask is None else mask[:, :, part], scaling)
            total_BT += logits.softmax(dim=-1).mean(dim=1).sum(dim=1)
        return total_BT / query.shape[2]


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


def as_read(mask_R1QS: torch.Tensor, model: PreTrainedModel) -> torch.Tensor:
    """A mask, True where a key is seen, as the attention by which `model` runs now takes it: some add it to logits."""
    if AttentionMaskInterface()[model.config._attn_implementation] is not eager_mask:
        return mask_R1QS
    return torch.zeros_like(mask_R1QS, dtype=model.dtype).masked_fill(~mask_R1QS, torch.finfo(model.dtype).min)


def encoder_attention(tower: torch.nn.Module, layer: int | Sequence[int] = -1) -> torch.nn.Module:
    """The attention of the encoder's layer that gives hidden_states[layer], of several layers the last one's: [-1] is
    the output of the last layer; counted from the front, [0] is the embeddings."""
    one = layer if isinstance(layer, int) else layer[-1]
    modules = [module for name, module in tower.named_modules() if LAYER.search(name)]
    return modules[one if one < 0 else one - 1]


def observe_attention(model: PreTrainedModel, observer: Observer) -> AbstractContextManager[None]:
    """Show `observer` every attention of `model` while the block runs."""
    return swap_attention(model, NAME, _active, observer)


@contextmanager
def record_attention(
    model: PreTrainedModel,
    query: str,
    only: torch.nn.Module | None = None,
    first: int | None = None,
    with_keys: bool = True,
) -> Iterator[Recorder]:
    """Record every attention layer of `model`, or one, while the block runs.

    `query`: "first", "last" or "mean", which may be of the first few queries alone.
    """
    recorder = Recorder(query, only, first, with_keys)
    with observe_attention(model, recorder.record):
        yield recorder
