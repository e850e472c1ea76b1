"""FLOPs as torch counts them on real forwards of transformers' models, to check the formulas against.

Attention runs on torch's MATH backend, whose two products are counted on every device (the CPU's fused kernel is not
counted at all); it computes the full square, causal or not. Models on the device "meta" are counted without memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Cache, LlavaForConditionalGeneration


def count(run: Callable[[], object]) -> int:
    """FLOPs of whatever `run` computes; a multiply-add is two."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def encode(model: LlavaForConditionalGeneration) -> int:
    """An image to visual tokens."""
    vision = model.config.vision_config
    shape = (1, vision.num_channels, vision.image_size, vision.image_size)
    pixels = torch.zeros(shape, device=model.device, dtype=model.dtype)
    return count(lambda: model.get_image_features(pixel_values=pixels))


def prefill(model: LlavaForConditionalGeneration, tokens: int) -> tuple[int, Cache]:
    """A prompt of so many tokens, all layers alike, and the first answer token's logits; with the cache it leaves."""
    return _read(model, tokens, None)


def decode(model: LlavaForConditionalGeneration, cache: Cache) -> int:
    """One more token after what is in the cache, which grows by it."""
    return _read(model, 1, cache)[0]


def _read(model: LlavaForConditionalGeneration, tokens: int, cache: Cache | None) -> tuple[int, Cache]:
    shape = (1, tokens, model.config.text_config.hidden_size)
    embeds = torch.zeros(shape, device=model.device, dtype=model.dtype)
    caches = []

    def run() -> None:
        output = model.model.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        model.get_output_embeddings()(output.last_hidden_state[:, -1])
        caches.append(output.past_key_values)

    return count(run), caches[0]


def cache_bytes(cache: Cache) -> int:
    """Bytes of a KV cache's tensors."""
    return sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
