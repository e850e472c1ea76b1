"""FLOPs of choosing the tokens, by method, as this repository's code does it; grip_core/cost/flops.py says what counts.

What only sorts, compares or draws costs nothing here. Attention and keys of the vision encoder come with the encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grip_core.baselines.dart import PIVOTS
from grip_core.baselines.vispruner import AT_ONCE
from grip_core.cost import flops
from grip_core.cost.dimensions import Model
from grip_core.cost.flops import product
from grip_core.cost.layers import stage_layers, visual_per_layer


@dataclass(frozen=True)
class Prompt:
    """How long a prompt is, in tokens."""

    text: int
    """Template and question; all that is not visual."""
    question: int
    """Of these, the question's own, which query-aware methods read."""


Cost = Callable[[Model, Prompt, int], int]


def nothing(model: Model, prompt: Prompt, k: int) -> int:
    """Ranks what is there already."""
    return 0


def text_similarity(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of visual and question tokens."""
    return product(model.tower.visual, model.decoder.width, prompt.question)


def fastv(model: Model, prompt: Prompt, k: int) -> int:
    """A pass of the whole language model over every token, as run here, and one attention row of each layer."""
    decoder = model.decoder
    tokens = prompt.text + model.tower.visual
    row = product(1, decoder.heads * decoder.head, tokens)
    return decoder.layers * (flops.decoder_layer(decoder, tokens, tokens) + row)


def divprune(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of all pairs of tokens; the greedy search only compares."""
    return product(model.tower.visual, model.decoder.width, model.tower.visual)


def cdpruner(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of all pairs and to the question's mean, and a Cholesky column for each token taken."""
    n = model.tower.visual
    columns = sum(product(n, taken, 1) for taken in range(k))
    return divprune(model, prompt, k) + product(n, model.decoder.width, 1) + columns


def visionzip(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of all pairs of keys, and the means of what is merged."""
    n = model.tower.visual
    return product(n, model.tower.head, n) + product(n, n, model.decoder.width)


def prumerge(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of the kept keys to all, and the sums of what is absorbed."""
    n = model.tower.visual
    return product(k, model.tower.head, n) + product(k, n, model.decoder.width)


def vispruner(model: Model, prompt: Prompt, k: int) -> int:
    """Each round compares the keys at even places with those at odd ones, over as many places as in the first."""
    rest = model.tower.visual - max(1, k // 2)
    left, rounds = rest, 0
    while left > k - max(1, k // 2):
        left -= min(left - (k - max(1, k // 2)), AT_ONCE, (left + 1) // 2)
        rounds += 1
    return rounds * product((rest + 1) // 2, model.tower.head, rest // 2)


def attention_rows(method: str, rows: Callable[[Prompt], int]) -> Cost:
    """Attention logits of so many queries in the layer before each stage, once more beside the fused attention's."""

    def cost(model: Model, prompt: Prompt, k: int) -> int:
        decoder = model.decoder
        visual_L = visual_per_layer(method, k, model.tower.visual, decoder.layers)
        lengths = [prompt.text + visual_L[layer - 1] for layer in stage_layers(method, decoder.layers)]
        return sum(product(rows(prompt), decoder.heads * decoder.head, length) for length in lengths)

    return cost


def sparsevlm(model: Model, prompt: Prompt, k: int) -> int:
    """Similarity of visual and text tokens and the attention of the text, at each stage; as if all text were after the
    image."""
    stages = len(stage_layers("sparsevlm", model.decoder.layers))
    raters = product(model.tower.visual, model.decoder.width, prompt.text)
    return stages * raters + attention_rows("sparsevlm", lambda prompt: prompt.text)(model, prompt, k)


def dart(model: Model, prompt: Prompt, k: int) -> int:
    """Cosines of the pivots to all visual tokens."""
    return product(PIVOTS, model.decoder.width, model.tower.visual)


BASELINES: dict[str, Cost] = {
    **dict.fromkeys(("random", "grid", "pooling", "norm", "encoder_attention", "holov"), nothing),
    **dict.fromkeys(("full", "no_image"), nothing),
    "text_similarity": text_similarity,
    "fastv": fastv,
    "divprune": divprune,
    "cdpruner": cdpruner,
    "visionzip": visionzip,
    "prumerge": prumerge,
    "vispruner": vispruner,
    "fastv_inside": attention_rows("fastv_inside", lambda prompt: 1),
    "pyramiddrop": attention_rows("pyramiddrop", lambda prompt: 1),
    "sparsevlm": sparsevlm,
    "dart": dart,
}
