"""FLOPs and KV cache of one answer, by method and budget."""

from __future__ import annotations

from grip_core.baselines.registry import known
from grip_core.cost import flops
from grip_core.cost.dimensions import Decoder, Model
from grip_core.cost.layers import visual_per_layer
from grip_core.cost.selection import BASELINES, Prompt


def answer_flops(model: Model, method: str, prompt: Prompt, k: int) -> dict[str, int]:
    """FLOPs by part: encode, select, prefill, decode (one token); grip_core/cost/flops.py says what counts.

    A name that is no baseline's is a trained scorer's. Raises KeyError for a baseline without a formula.
    """
    visual_L = visual_per_layer(method, k, model.tower.visual, model.decoder.layers)
    return {
        "encode": flops.encode(model.tower),
        "select": selection_flops(model, method, prompt, k),
        "prefill": flops.prefill(model.decoder, prompt.text, visual_L),
        "decode": flops.decode(model.decoder, prompt.text, visual_L),
    }


def selection_flops(model: Model, method: str, prompt: Prompt, k: int) -> int:
    """FLOPs of choosing the tokens; see `answer_flops`."""
    if method in BASELINES or method in known():
        return BASELINES[method](model, prompt, k)
    return flops.scorer(model.scorer, model.tower.visual, prompt.question)


def answer_kv_bytes(
    decoder: Decoder, method: str, prompt: Prompt, n: int, k: int, bytes_per_number: int
) -> dict[str, int]:
    """Bytes that each part adds to the KV cache: prefill the prompt's, decode one token's."""
    visual_L = visual_per_layer(method, k, n, decoder.layers)
    return {
        "encode": 0,
        "select": 0,
        "prefill": flops.kv_bytes(decoder, prompt.text, visual_L, bytes_per_number),
        "decode": flops.kv_bytes(decoder, 1, [0] * decoder.layers, bytes_per_number),
    }
