"""Random: k tokens, uniformly and without replacement."""

from __future__ import annotations

import torch

from grip_core.baselines.base import ScoreBaseline
from grip_core.seeds import derive
from grip_core.vlm.context import Context

LOW_32 = 0xFFFFFFFF
CHANNELS = 16


class Random(ScoreBaseline):
    """The draw is a hash of (seed, the prompt's content, the token's index), so it is the same in any batch."""

    name = "random"
    label = "Random"

    def scores(self, context: Context) -> torch.Tensor:
        seed = derive(self.seed, "random baseline")
        index_N = torch.arange(context.n_visual, device=context.visual_BND.device)
        key_B1 = _mix(_fingerprint(context) + seed)[:, None]
        return _mix(key_B1 ^ _mix(index_N + seed)).double()


def _fingerprint(context: Context) -> torch.Tensor:
    """An integer (B,) that names a prompt: its text and, roughly, its image.

    The image enters by the mean of a few channels in bfloat16: coarse enough that the last bits of a float, which do
    depend on the size of the batch, do not show.
    """
    place_BT = context.attention_mask_BT.long().cumsum(1)
    text_BT = _mix(context.input_ids_BT ^ _mix(place_BT)) * context.attention_mask_BT
    real_BN1 = context.visual_mask_BN[..., None]
    mean_BC = (context.visual_BND[..., :CHANNELS].double() * real_BN1).sum(1) / real_BN1.sum(1)
    bits_BC = mean_BC.bfloat16().view(torch.int16).long()
    channel_C = torch.arange(bits_BC.shape[1], device=bits_BC.device)
    return text_BT.sum(1) + _mix((bits_BC & 0xFFFF) ^ _mix(channel_C)).sum(1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of MurmurHash3 (Appleby 2011) on the low 32 bits, held in int64: a bijection that looks random."""
    x = x & LOW_32
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & LOW_32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & LOW_32
    return x ^ (x >> 16)
