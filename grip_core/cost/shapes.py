"""Shapes of LLaVA-style models by name, and models of random weights in them: what a cost depends on, and no more."""

from __future__ import annotations

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from grip_core.errors import UserError
from grip_core.places import VLM
from grip_core.seeds import derive

EMBEDDED, LLAVA_7B, STAND_IN = "embedded", "llava-1.5-7b", "llava-1.5-eighth"


def llava_1_5(divisor: int = 1) -> LlavaConfig:
    """LLaVA-1.5-7B (Liu et al. 2024, arXiv 2310.03744), every width and number of heads divided by `divisor`.

    Depth, numbers of tokens, vocabulary and the width of a head stay.
    """
    vision = CLIPVisionConfig(
        hidden_size=1024 // divisor,
        intermediate_size=4096 // divisor,
        num_hidden_layers=24,
        num_attention_heads=16 // divisor,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=4096 // divisor,
        intermediate_size=11008 // divisor,
        num_hidden_layers=32,
        num_attention_heads=32 // divisor,
        num_key_value_heads=32 // divisor,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=4,  # of the embedded tokenizer, which random weights answer to as well as to any
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=576,
        tie_word_embeddings=False,
    )


RANDOM_SHAPES = {LLAVA_7B: llava_1_5(), STAND_IN: llava_1_5(8)}
"""Shapes that are built with random weights, for no checkpoint of theirs is here."""


def shape_config(name: str) -> LlavaConfig:
    """The configuration of a named shape. Raises UserError, with the names there are, if there is none."""
    if name == EMBEDDED:
        return AutoConfig.from_pretrained(VLM)
    if name not in RANDOM_SHAPES:
        raise UserError(f"{name} is not a known shape; known are: {', '.join([EMBEDDED, *RANDOM_SHAPES])}")
    return RANDOM_SHAPES[name]


def random_model(
    config: LlavaConfig, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> LlavaForConditionalGeneration:
    """transformers' own model with random weights; on the device "meta" it takes no memory and computes shapes only."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(derive(0, "random shape"))
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)
