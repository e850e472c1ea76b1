"""Whether a model fits: bytes it needs, roughly, and bytes there are."""

from __future__ import annotations

import os

import torch

from grip_core.cost.dimensions import Decoder
from grip_core.cost.flops import kv_bytes
from grip_core.cost.shapes import STAND_IN
from grip_core.errors import UserError

RESERVE = 1.1  # what the allocator and the runtime take beyond tensors
STREAMS = 6  # of the hidden size: residual, norm, queries, keys, values, output


def needed_bytes(parameters: int, decoder: Decoder, text: int, visual: int, batch: int, bytes_per_number: int) -> int:
    """Weights, the KV cache of a batch of full prompts, and one layer's activations."""
    cache = kv_bytes(decoder, text, [visual] * decoder.layers, bytes_per_number)
    activations = (text + visual) * (STREAMS * decoder.width + 3 * decoder.mlp) * bytes_per_number
    return int(RESERVE * (parameters * bytes_per_number + batch * (cache + activations)))


def available_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or a machine's memory as a whole."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(shape: str, needed: int, available: int, device: str) -> None:
    """Raise UserError if it does not; `device` is a type, cuda or cpu."""
    if needed > available:
        raise UserError(
            f"{shape} needs {needed / 1e9:.0f} GB of memory, but {device} has {available / 1e9:.0f} GB; lower "
            f"timing.batch_sizes or take --shape {STAND_IN}, which has the same depth and numbers of tokens"
        )
