"""The numbers of a model that its cost is a formula of, read off its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlavaConfig, PreTrainedConfig

from grip_core.config import ScorerConfig
from grip_core.errors import UserError
from grip_core.policy.scorer import ScorerConfiguration


@dataclass(frozen=True)
class Tower:
    """A CLIP-style vision tower and the projector behind it."""

    layers: int
    width: int
    head: int
    """Width of a head, and of the keys that methods compare tokens by."""
    mlp: int
    patch: int
    """Pixels of a patch's side."""
    channels: int
    visual: int
    """N: visual tokens of an image."""
    projected: int
    """Width of the projector, which is the language model's."""

    @property
    def positions(self) -> int:
        """Patches and the CLS token."""
        return self.visual + 1


@dataclass(frozen=True)
class Decoder:
    """A Llama-style decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    """Width of a head."""
    mlp: int
    vocabulary: int


@dataclass(frozen=True)
class Model:
    """A LLaVA-style model, and the scorer that prunes for it."""

    tower: Tower
    decoder: Decoder
    scorer: ScorerConfiguration


def model_dimensions(config: PreTrainedConfig, scorer: ScorerConfig) -> Model:
    """All of a LLaVA-style model's. The tower runs every layer, also those behind the one whose output is taken.

    Raises UserError for a model of another family, whose vision side is another formula.
    """
    if not isinstance(config, LlavaConfig):
        raise UserError(f"costs are formulas of LLaVA-style models, but vlm.path is of the family {config.model_type}")
    vision, text = config.vision_config, config.text_config
    tower = Tower(
        layers=vision.num_hidden_layers,
        width=vision.hidden_size,
        head=vision.hidden_size // vision.num_attention_heads,
        mlp=vision.intermediate_size,
        patch=vision.patch_size,
        channels=vision.num_channels,
        visual=(vision.image_size // vision.patch_size) ** 2,
        projected=text.hidden_size,
    )
    pruner = ScorerConfiguration(input_width=text.hidden_size, **scorer.model_dump())
    return Model(tower, decoder_dimensions(text), pruner)


def decoder_dimensions(text: PreTrainedConfig) -> Decoder:
    """A decoder's, from the text part of any model's configuration."""
    return Decoder(
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        mlp=text.intermediate_size,
        vocabulary=text.vocab_size,
    )
