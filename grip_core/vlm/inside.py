"""Visual tokens dropped between the layers of the language model.

Before a cut's layer the hidden states of the tokens that go on are gathered, and from there on each layer gets the
part of the positions and of the mask that belongs to them. Text tokens always stay, and the order is kept. Positions
stay what they were at the first layer.

Shape legend as in grip_core/vlm/context.py, and: S tokens at a layer, Q of them that ask, H heads, G key heads, E a
head's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from grip_core.vlm.assemble import Assembled, assemble
from grip_core.vlm.attention import attention_logits, observe_attention
from grip_core.vlm.context import Context, Cut, Selection, top_k

if TYPE_CHECKING:
    from grip_core.vlm.frozen import FrozenVLM


@dataclass(frozen=True)
class Observed:
    """What a rule sees of the layer that has just run: its attention, its output, and which tokens are still there."""

    query_BHSE: torch.Tensor
    """After rotary positions, as the keys."""
    key_BGSE: torch.Tensor
    attention_mask_B1SS: torch.Tensor | None
    """True where a query sees a key, or a number to add to the logits; None where each sees itself and all before."""
    scaling: float
    hidden_BSD: torch.Tensor
    """The layer's output."""
    real_BS: torch.Tensor
    """True where a token does not pad."""
    place_BN: torch.Tensor
    """Index into S of every visual token (0 where it is gone)."""
    present_BN: torch.Tensor
    """True where a visual token is still there."""

    def logits(self, n_last: int) -> torch.Tensor:
        """Attention logits of the last `n_last` tokens to every key, (B, H, Q, S); -inf where a key is not seen."""
        query_BHQE = self.query_BHSE[:, :, -n_last:]
        mask = causal(self.query_BHSE.shape[2], self.query_BHSE.device)[None, None]
        if self.attention_mask_B1SS is not None:
            mask = self.attention_mask_B1SS
        return attention_logits(query_BHQE, self.key_BGSE, mask[:, :, -n_last:], self.scaling)

    def attention(self, n_last: int) -> torch.Tensor:
        """Attention of the last `n_last` tokens to every key, mean over heads, (B, Q, S)."""
        return self.logits(n_last).softmax(dim=-1).mean(dim=1)

    def of_visual(self, values: torch.Tensor) -> torch.Tensor:
        """The part of (B, ..., S) that belongs to the visual tokens, (B, ..., N); what is gone gives anything."""
        place = self.place_BN.view(-1, *[1] * (values.ndim - 2), self.place_BN.shape[1]).to(values.device)
        return values.gather(-1, place.expand(*values.shape[:-1], -1))


Rule = Callable[[Observed], torch.Tensor]
"""Scores the visual tokens, (B, N), larger is better; what a token that is gone scores does not matter."""


@dataclass(frozen=True)
class Stage:
    """Before decoder layer `layer`, at least 1, each prompt's `count_B` best tokens go on."""

    layer: int
    count_B: torch.Tensor


@contextmanager
def apply_cuts(
    language_model: PreTrainedModel, n_visual: int, selection: Selection, inputs: Assembled
) -> Iterator[None]:
    """While the block runs, a forward of `language_model` over `inputs`, assembled from `selection`, drops as it says.

    The last hidden states have as many tokens as the longest row still has, padded on the left. Raises ValueError for a
    cut at a layer that the model does not have.
    """
    cuts = {cut.layer: cut for cut in selection.cuts}
    if not cuts:
        yield
        return
    _check(cuts, range(len(language_model.layers)))
    dropping = _Dropping(inputs, selection, n_visual)
    with _before_layers(language_model, dropping, lambda layer, hidden_RSD: cuts.get(layer)):
        yield


@torch.inference_mode()
def choose_cuts(vlm: FrozenVLM, context: Context, stages: Sequence[Stage], rule: Rule) -> Selection:
    """One pass over the prompts, in which `rule` scores at each stage what the stages before have left.

    The pass is the method's own prefill and goes on to the last layer: its time is that of reading the prompts and of
    choosing. A stage's rule sees the attention of the layer before it. Raises ValueError for a stage at layer 0 or past
    the last layer.
    """
    everything = Selection.all(context)
    layers = vlm.language_model.layers
    at = {stage.layer: stage for stage in stages}
    _check(at, range(1, len(layers)))
    watched = {layers[layer - 1].self_attn for layer in at}
    inputs = assemble(context, everything, vlm.embed, vlm.positions)
    dropping = _Dropping(inputs, everything, context.n_visual)
    seen: dict[str, Any] = {}
    cuts: list[Cut] = []

    def see(module, query, key, mask, scaling) -> None:
        if module in watched:
            seen.update(query_BHSE=query, key_BGSE=key, attention_mask_B1SS=mask, scaling=scaling)

    def decide(layer: int, hidden_BSD: torch.Tensor) -> Cut | None:
        if layer not in at:
            return None
        present_BN = dropping.present_RN
        scores_BN = rule(
            Observed(
                **seen,
                hidden_BSD=hidden_BSD,
                real_BS=dropping.real_RS,
                place_BN=dropping.place_RN,
                present_BN=present_BN,
            )
        )
        scores_BN = scores_BN.to(present_BN.device)
        best = top_k(scores_BN.masked_fill(~present_BN, float("-inf")), at[layer].count_B)
        cuts.append(Cut(layer, best.kept_RK, best.mask_RK))
        return cuts[-1]

    with observe_attention(vlm.language_model, see), _before_layers(vlm.language_model, dropping, decide):
        vlm.hidden_states(inputs)
    return replace(everything, cuts=tuple(cuts))


def tokens_per_layer(selection: Selection, n_layers: int) -> torch.Tensor:
    """Visual tokens that each of `n_layers` decoder layers reads, int64 (R, layers)."""
    starts = {0: selection.mask_RK} | {cut.layer: cut.mask_RK for cut in selection.cuts}
    latest = [max(start for start in starts if start <= layer) for layer in range(n_layers)]
    return torch.stack([starts[start].sum(1) for start in latest], dim=1)


def causal(length: int, device: torch.device) -> torch.Tensor:
    """True where a token (row) may read another (column): itself and what is before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def _check(layers: Mapping[int, object], permitted: range) -> None:
    wrong = sorted(set(layers) - set(permitted))
    if wrong:
        raise ValueError(
            f"tokens can be dropped before layers {permitted.start} to {permitted.stop - 1}, but got {wrong[0]}"
        )


class _Dropping:
    """Which tokens of a forward pass are still there, and what belongs to them of the model's own arguments.

    `present_RN` says which visual tokens are, `place_RN` where among the S tokens; `real_RS` is False where one pads;
    `_index_RS` says where among the tokens of the first layer each was.
    """

    def __init__(self, inputs: Assembled, selection: Selection, n_visual: int) -> None:
        self.real_RS = inputs.attention_mask_RS
        self.present_RN = _among(selection.kept_RK, selection.mask_RK, n_visual)
        # Padding scatters to a column past the end.
        column_RK = selection.kept_RK.masked_fill(~selection.mask_RK, n_visual)
        places = column_RK.new_zeros(column_RK.shape[0], n_visual + 1)
        self.place_RN = places.scatter(1, column_RK, inputs.place_RK)[:, :n_visual]
        self._index_RS = torch.arange(self.real_RS.shape[1], device=self.real_RS.device).expand_as(self.real_RS)
        self._deep = inputs.deep
        self._dropped = False
        self._parts: dict[int, torch.Tensor | None] = {}  # the model passes the same tensors to every layer

    def drop(self, hidden_RSD: torch.Tensor, cut: Cut) -> torch.Tensor:
        """The hidden states of what `cut` lets through, in their old order, padded on the left."""
        total = self.real_RS.shape[1]
        stay_RN = _among(cut.kept_RK, cut.mask_RK, self.present_RN.shape[1]) & self.present_RN
        keep_RS = self.real_RS & ~_among(self.place_RN, self.present_RN & ~stay_RN, total)
        count_R1 = keep_RS.sum(1, keepdim=True)
        length = int(count_R1.max())
        order_RS = keep_RS.to(torch.int8).argsort(dim=1, stable=True)[:, total - length :]
        rank_RS = keep_RS.cumsum(1) - 1 + (length - count_R1)
        self.place_RN = rank_RS.gather(1, self.place_RN).masked_fill(~stay_RN, 0)
        self.present_RN = stay_RN
        self.real_RS = self.real_RS.gather(1, order_RS) & keep_RS.gather(1, order_RS)
        self._index_RS = self._index_RS.gather(1, order_RS)
        if self._deep is not None:
            self._deep.move(rank_RS, keep_RS)
        self._dropped = True
        self._parts.clear()
        return _rows(hidden_RSD, order_RS)

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A layer's keyword arguments with the part of positions and mask that belongs to the tokens that are left."""
        if not self._dropped:
            return dict(given)
        found = {**given, "attention_mask": self._part(given["attention_mask"], self._mask)}
        if "position_embeddings" in given:  # learned positions are added before the first layer
            found["position_embeddings"] = tuple(
                self._part(item, self._rotary) for item in given["position_embeddings"]
            )
        if (positions := given.get("position_ids")) is not None:
            found["position_ids"] = self._part(positions, self._positions)
        return found

    def _part(self, whole: torch.Tensor | None, take: Callable[[Any], torch.Tensor | None]) -> torch.Tensor | None:
        if id(whole) not in self._parts:
            self._parts[id(whole)] = take(whole)
        return self._parts[id(whole)]

    def _rotary(self, whole_RSE: torch.Tensor) -> torch.Tensor:
        return _rows(whole_RSE.expand(len(self._index_RS), -1, -1), self._index_RS)

    def _positions(self, whole_RS: torch.Tensor) -> torch.Tensor:
        return whole_RS.expand(len(self._index_RS), -1).gather(1, self._index_RS.to(whole_RS.device))

    def _mask(self, whole_R1SS: torch.Tensor | None) -> torch.Tensor | None:
        index_RS, real_R11S = self._index_RS, self.real_RS[:, None, None]
        if whole_R1SS is not None:
            index_RS, real_R11S = index_RS.to(whole_R1SS.device), real_R11S.to(whole_R1SS.device)
        if whole_R1SS is None:  # causal, and no row was padded; now some may be
            return None if self.real_RS.all() else causal(index_RS.shape[1], index_RS.device) & real_R11S
        rows = torch.arange(len(index_RS), device=index_RS.device)[:, None, None]
        whole_RSS = whole_R1SS[:, 0].expand(len(index_RS), -1, -1)
        part_R1SS = whole_RSS[rows, index_RS[:, :, None], index_RS[:, None]][:, None]
        if part_R1SS.dtype == torch.bool:
            return part_R1SS & real_R11S
        return part_R1SS.masked_fill(~real_R11S, torch.finfo(part_R1SS.dtype).min)


@contextmanager
def _before_layers(
    language_model: PreTrainedModel, dropping: _Dropping, decide: Callable[[int, torch.Tensor], Cut | None]
) -> Iterator[None]:
    """While the block runs, `decide` says before every decoder layer what is dropped there."""

    def hook(layer: int, module, args, kwargs):
        (hidden_RSD,) = args
        cut = decide(layer, hidden_RSD)
        return (hidden_RSD if cut is None else dropping.drop(hidden_RSD, cut),), dropping.arguments(kwargs)

    handles = [
        layer.register_forward_pre_hook(partial(hook, number), with_kwargs=True)
        for number, layer in enumerate(language_model.layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(values_RSD: torch.Tensor, index_RS: torch.Tensor) -> torch.Tensor:
    # Of a model that is split over devices each layer has its own.
    return values_RSD.gather(1, index_RS[..., None].expand(-1, -1, values_RSD.shape[2]).to(values_RSD.device))


def _among(index_RK: torch.Tensor, mask_RK: torch.Tensor, total: int) -> torch.Tensor:
    """True at the places that `index_RK` names, (R, total)."""
    marked = torch.zeros(index_RK.shape[0], total + 1, dtype=torch.bool, device=index_RK.device)
    return marked.scatter(1, index_RK.masked_fill(~mask_RK, total), True)[:, :total]
