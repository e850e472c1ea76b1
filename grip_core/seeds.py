"""Every random draw comes from a generator named by (seed, purpose, step), never from global state.

So a resumed run draws what the uninterrupted one would have drawn, and changing one purpose's draws leaves the others
alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for one purpose at one step, by SHA-256: the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator; draw on the CPU and move the result, so that devices agree."""
    return torch.Generator().manual_seed(derive(seed, purpose, step))


def numpy_random(seed: int, purpose: str, step: int = 0) -> np.random.RandomState:
    """A RandomState: NumPy guarantees its stream for ever, which Generator's is not."""
    return np.random.RandomState(derive(seed, purpose, step) % 2**32)
