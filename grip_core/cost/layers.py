"""How many visual tokens each decoder layer reads, by method and budget."""

from __future__ import annotations

from itertools import pairwise

import torch

from grip_core.baselines.base import InsideBaseline, geometric_counts
from grip_core.baselines.registry import known
from grip_core.evaluation.evaluate import FULL


def visual_per_layer(method: str, k: int, n: int, layers: int) -> list[int]:
    """One number for each of `layers` decoder layers, of a method that keeps k of n visual tokens in the end.

    Methods before the language model leave k to every layer; those inside it read all n until their first stage.
    """
    if method == FULL:
        return [n] * layers
    if not is_inside(method):
        return [k] * layers
    stages = stage_layers(method, layers)
    counts = [n, *(int(count) for count in geometric_counts(torch.tensor(n), k, len(stages)))]
    lengths = [end - start for start, end in pairwise([0, *stages, layers])]
    return [count for count, length in zip(counts, lengths, strict=True) for _ in range(length)]


def is_inside(method: str) -> bool:
    """Whether a method prunes inside the language model."""
    return method in known() and known()[method].inside


def stage_layers(method: str, layers: int) -> list[int]:
    """The layers before which a method inside the language model drops tokens."""
    kind = known()[method]
    if not issubclass(kind, InsideBaseline):
        raise ValueError(f"only methods inside the language model have stages, but got {method}")
    # Where a method drops depends on the depth alone, so no model is there to be asked for.
    return list(kind(None, seed=0).layers(layers))  # type: ignore[arg-type]
