"""FLOPs of one answer by formula; a multiply-add is two. Matrix products only: norms, activations, softmax, rotary
positions and sorting are below a hundredth of them.

Attention counts the full square of queries and keys, causal or not, as torch's counter does (counted.py checks every
formula against it); a fused causal kernel may skip up to half of that square. The language model's head is applied to
the last token alone, as in decoding.
"""

from __future__ import annotations

from collections.abc import Sequence

from grip_core.cost.dimensions import Decoder, Tower
from grip_core.policy.scorer import OCTAVES, ScorerConfiguration


def product(rows: int, inner: int, columns: int) -> int:
    """(rows, inner) @ (inner, columns)."""
    return 2 * rows * inner * columns


def encode(tower: Tower) -> int:
    """An image to visual tokens: the tower and the projector's two layers."""
    n, width = tower.positions, tower.width
    patches = product(tower.visual, tower.channels * tower.patch**2, width)
    layer = 4 * product(n, width, width) + 2 * product(n, width, n) + 2 * product(n, width, tower.mlp)
    return patches + tower.layers * layer + projector(tower)


def projector(tower: Tower) -> int:
    """The projector alone; it leaves the CLS token out."""
    return product(tower.visual, tower.width, tower.projected) + product(tower.visual, tower.projected, tower.projected)


def decoder_layer(decoder: Decoder, queries: int, keys: int) -> int:
    """One layer over `queries` tokens that attend to `keys` tokens, their own included."""
    inner = decoder.heads * decoder.head
    projections = 2 * product(queries, decoder.width, inner)
    projections += 2 * product(queries, decoder.width, decoder.kv_heads * decoder.head)
    attention = 2 * product(queries, inner, keys)
    return projections + attention + 3 * product(queries, decoder.width, decoder.mlp)


def head(decoder: Decoder) -> int:
    """Logits of one token."""
    return product(1, decoder.width, decoder.vocabulary)


def prefill(decoder: Decoder, text: int, visual_L: Sequence[int]) -> int:
    """The prompt: `text` tokens and, in each layer, so many visual tokens. Includes the first answer token's logits."""
    lengths = [text + visual for visual in visual_L]
    return sum(decoder_layer(decoder, length, length) for length in lengths) + head(decoder)


def decode(decoder: Decoder, text: int, visual_L: Sequence[int]) -> int:
    """The first answer token, read with the prompt's KV cache, to the second one's logits."""
    return sum(decoder_layer(decoder, 1, text + visual + 1) for visual in visual_L) + head(decoder)


def kv_bytes(decoder: Decoder, text: int, visual_L: Sequence[int], bytes_per_number: int) -> int:
    """Keys and values of the prompt, which every decoding step keeps and reads."""
    cached = sum(text + visual for visual in visual_L)
    return 2 * cached * decoder.kv_heads * decoder.head * bytes_per_number


def scorer(config: ScorerConfiguration, visual: int, question: int) -> int:
    """Our scorer over `visual` tokens and a question of so many tokens."""
    width, tokens = config.width, visual + question + 1  # and the budget's
    inputs = product(visual + question, config.input_width, width) + product(visual, 4 * OCTAVES, width)
    budget = product(1, 2, width) + product(1, width, width)
    block = (
        4 * product(tokens, width, width) + 2 * product(tokens, width, tokens) + 2 * product(tokens, width, 2 * width)
    )
    return inputs + budget + config.layers * block + product(visual, width, 1)
