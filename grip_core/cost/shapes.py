"""Shapes of models by name, and models of random weights in them: what a cost depends on, and no more."""

from __future__ import annotations

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
)

from grip_core.errors import UserError
from grip_core.places import VLM
from grip_core.seeds import derive

EMBEDDED, LLAVA_7B, STAND_IN, QWEN_7B = "embedded", "llava-1.5-7b", "llava-1.5-eighth", "qwen2.5-vl-7b"


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


def qwen2_5_vl(divisor: int = 1) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-7B (Bai et al. 2025, arXiv 2502.13923), every width and number of heads divided by `divisor`, up to 4.

    Depth, patches, windows and the width of a head stay; the vocabulary is smaller, and its special tokens are the
    first ones.
    """
    text = {
        "vocab_size": 152064 // divisor,
        "hidden_size": 3584 // divisor,
        "intermediate_size": 18944 // divisor,
        "num_hidden_layers": 28,
        "num_attention_heads": 28 // divisor,
        "num_key_value_heads": 4 // divisor,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280 // divisor,
        "intermediate_size": 3420 // divisor,
        "num_heads": 16 // divisor,
        "patch_size": 14,
        "window_size": 112,
        "out_hidden_size": 3584 // divisor,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    special = dict.fromkeys(("video_token_id", "vision_start_token_id", "vision_end_token_id"), 3)
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=4, tie_word_embeddings=False, **special
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
    config: PreTrainedConfig, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """transformers' own model with random weights; on the device "meta" it takes no memory and computes shapes only."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(derive(0, "random shape"))
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)
