"""A tiny LLaVA eight layers deep, so that methods inside the language model have stages of their own."""

from __future__ import annotations

import pytest

from grip_core.vlm.embedded import build_model, build_processor
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.words import TEMPLATE, build_tokenizer
from tests.families import WORDS, Family, random_images, random_weights


@pytest.fixture(scope="session")
def deep() -> Family:
    tokenizer = build_tokenizer(WORDS)
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model = build_model(len(tokenizer), image_token_id, width=32, vision_layers=1, text_layers=8)
    random_weights(model)
    return Family(LlavaVLM(model, build_processor(tokenizer), TEMPLATE), random_images([(144, 144)] * 3), None)
