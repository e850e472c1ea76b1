"""The one place that owns embeddings, positions and masks of a pruned prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from grip_core.vlm.context import Context, Selection
from grip_core.vlm.deepstack import DeepStack

Positions = Literal["original", "compact"]


@dataclass(frozen=True)
class Assembled:
    """What the language model reads: R rows of S tokens, padded on the left before the prompt."""

    embeds_RSD: torch.Tensor
    attention_mask_RS: torch.Tensor
    positions_PRS: torch.Tensor
    is_visual_RS: torch.Tensor
    place_RK: torch.Tensor
    """Index into S of every kept visual token (0 where the selection pads)."""
    deep: DeepStack | None
    """What is added to visual tokens between layers, for one pass over the prompt."""


def assemble(
    context: Context,
    selection: Selection,
    embed: torch.nn.Module,
    positions: Positions,
    continuation_RA: torch.Tensor | None = None,
) -> Assembled:
    """Text tokens and kept visual tokens in the order of the full prompt, then `continuation_RA` (token ids) if given.

    `positions="original"` leaves every token the position it had in the full prompt; `"compact"` numbers the kept
    tokens anew without gaps, as if the image had only the rows and the columns that are kept.
    """
    prompt_R = selection.prompt_R
    total = context.input_ids_BT.shape[1]
    ids_RT = context.input_ids_BT[prompt_R]
    is_text_RT = context.attention_mask_BT[prompt_R].clone()
    slots_RN = context.visual_slot_BN[prompt_R]
    real_RN = context.visual_mask_BN[prompt_R]
    # Padding slots scatter to a column past the end, so that they cannot hide slot 0.
    is_visual_RT = _mark(slots_RN, real_RN, total)
    kept_slots_RK = slots_RN.gather(1, selection.kept_RK)
    is_kept_RT = _mark(kept_slots_RK, selection.mask_RK, total)
    keep_RT = (is_text_RT & ~is_visual_RT) | is_kept_RT

    # Kept tokens move to the right end in their old order; what is dropped becomes the left padding and is cut off.
    length = int(keep_RT.sum(1).max())
    order_RS = keep_RT.to(torch.int8).argsort(dim=1, stable=True)[:, total - length :]
    mask_RS = keep_RT.gather(1, order_RS)
    embeds_RSD = embed(ids_RT.gather(1, order_RS))
    visual_RKD = _kept_tokens(context, selection).to(embeds_RSD.dtype)
    # A kept visual token's place after the move: how many kept tokens precede its slot, after the left padding.
    rank_RT = keep_RT.cumsum(1) - 1 + (length - keep_RT.sum(1, keepdim=True))
    place_RK = rank_RT.gather(1, kept_slots_RK).masked_fill(~selection.mask_RK, length)
    padded = torch.cat([embeds_RSD, embeds_RSD.new_zeros(embeds_RSD.shape[0], 1, embeds_RSD.shape[2])], dim=1)
    embeds_RSD = padded.scatter(1, place_RK[..., None].expand_as(visual_RKD), visual_RKD)[:, :length]

    axes = context.positions_PBT.shape[0]
    positions_PRS = context.positions_PBT[:, prompt_R].gather(2, order_RS.expand(axes, -1, -1))
    is_visual_RS = is_kept_RT.gather(1, order_RS)
    if positions == "compact":
        positions_PRS = _compact(positions_PRS, mask_RS, is_visual_RS)
    positions_PRS = positions_PRS.masked_fill(~mask_RS, 0)
    place_RK = place_RK.masked_fill(~selection.mask_RK, 0)
    deep = None
    if context.deep_BNMD is not None:
        deep_RKMD = context.deep_BNMD[prompt_R[:, None], selection.kept_RK].to(embeds_RSD.dtype)
        deep = DeepStack(deep_RKMD, place_RK, selection.mask_RK)
    prompt = Assembled(embeds_RSD, mask_RS, positions_PRS, is_visual_RS, place_RK, deep)
    return prompt if continuation_RA is None else extend(prompt, embed(continuation_RA))


def _mark(slots_RK: torch.Tensor, mask_RK: torch.Tensor, total: int) -> torch.Tensor:
    marked = torch.zeros(slots_RK.shape[0], total + 1, dtype=torch.bool, device=slots_RK.device)
    return marked.scatter(1, slots_RK.masked_fill(~mask_RK, total), True)[:, :total]


def _kept_tokens(context: Context, selection: Selection) -> torch.Tensor:
    if selection.merged_RKD is not None:
        return selection.merged_RKD
    return context.visual_BND[selection.prompt_R[:, None], selection.kept_RK]


def _compact(positions_PRS: torch.Tensor, mask_RS: torch.Tensor, is_visual_RS: torch.Tensor) -> torch.Tensor:
    """Number anew: text one by one, equal on every axis; the image's tokens by their dense rank along each axis.

    As in the full prompt, the image starts where the text before it ends, and the text after it follows the image's
    largest position. With one axis text and image are counted together, text within the image too.
    """
    if len(positions_PRS) == 1:
        return (mask_RS.cumsum(1) - 1)[None]
    text_RS = mask_RS & ~is_visual_RS
    before_RS = text_RS.cumsum(1)
    rank_PRS = torch.stack([_dense_rank(axis_RS, is_visual_RS) for axis_RS in positions_PRS])
    extent_R1 = (rank_PRS + 1).masked_fill(~is_visual_RS, 0).amax(dim=(0, 2))[:, None]
    image_seen_RS = is_visual_RS.cumsum(1) > 0
    text_position_RS = before_RS - 1 + torch.where(image_seen_RS, extent_R1, 0)
    return torch.where(is_visual_RS, before_RS + rank_PRS, text_position_RS)


def _dense_rank(values_RS: torch.Tensor, mask_RS: torch.Tensor) -> torch.Tensor:
    """Rank from 0 among the masked values of a row: equal values share one, gaps close."""
    ordered, order = values_RS.masked_fill(~mask_RS, -1).sort(dim=1, stable=True)
    # What is masked out sorts first, so that the first real value starts a new rank: counted from -1 it is 0.
    step = (ordered.diff(dim=1, prepend=torch.full_like(ordered[:, :1], -1)) > 0).long()
    return torch.zeros_like(ordered).scatter(1, order, step.cumsum(1) - 1)


def extend(prompt: Assembled, embeds_RAD: torch.Tensor) -> Assembled:
    """Append text at the positions that follow the largest."""
    rows, extra = embeds_RAD.shape[:2]
    last_R = prompt.positions_PRS.amax(dim=(0, 2))
    following = last_R[:, None] + 1 + torch.arange(extra, device=last_R.device)
    return Assembled(
        torch.cat([prompt.embeds_RSD, embeds_RAD], dim=1),
        torch.cat([prompt.attention_mask_RS, prompt.attention_mask_RS.new_ones(rows, extra)], dim=1),
        torch.cat([prompt.positions_PRS, following.expand(prompt.positions_PRS.shape[0], -1, -1)], dim=2),
        torch.cat([prompt.is_visual_RS, prompt.is_visual_RS.new_zeros(rows, extra)], dim=1),
        prompt.place_RK,
        prompt.deep,
    )
