"""Tiny random models of the real classes, one a family, and prompts of different lengths and image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from grip_core.vlm.context import Context
from grip_core.vlm.embedded import TEMPLATE, build_model, build_processor, build_tokenizer
from grip_core.vlm.frozen import FrozenVLM, Preprocessors
from grip_core.vlm.llava import LlavaVLM
from grip_core.vlm.qwen2_5_vl import Qwen25VLM

# Models this small gain nothing from a second thread, and lose much where another process wants the core.
torch.set_num_threads(1)

QUESTIONS = ["what color ?", "is there a red circle in row 2 ?", "which ?"]
ANSWERS = ["red", "yes it is", "2 4"]
WORDS = [*QUESTIONS, *ANSWERS, "blue green no"]
QWEN_SPECIAL = ["<pad>", "<eos>", "<unk>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TEMPLATE = "what <|vision_start|> <|image_pad|> <|vision_end|> {question} is"


@dataclass(frozen=True)
class Family:
    """A family's VLM, a batch of raw prompts, and the inputs that the stock model takes for one prompt."""

    vlm: FrozenVLM
    images: Sequence[np.ndarray]
    stock_inputs: object

    def context(self, index: Sequence[int] = (0, 1, 2)) -> Context:
        return self.vlm.encode(
            [self.images[i] for i in index], [QUESTIONS[i] for i in index], [ANSWERS[i] for i in index]
        )


@pytest.fixture(scope="session", params=["llava", "qwen2_5_vl"])
def family(request) -> Family:
    return {"llava": _llava, "qwen2_5_vl": _qwen}[request.param]()


@pytest.fixture(scope="session")
def llava() -> Family:
    return _llava()


@pytest.fixture(scope="session")
def qwen() -> Family:
    return _qwen()


@pytest.fixture
def positions(request, family):
    """Set the family's positions for one test."""
    before = family.vlm.positions
    family.vlm.positions = request.param
    yield request.param
    family.vlm.positions = before


def synthetic_context(visual_BND: torch.Tensor, **given: torch.Tensor) -> Context:
    """A context without a model: a grid of one row, one word of question; any field may be given."""
    batch, n, width = visual_BND.shape
    columns = torch.arange(n).expand(batch, -1)
    fields = {
        "visual_mask_BN": torch.ones(batch, n, dtype=torch.bool),
        "grid_BN2": torch.stack([torch.zeros_like(columns), columns], dim=-1),
        "encoder_attention_BN": torch.zeros(batch, n),
        "encoder_key_BNE": visual_BND,
        "question_BLD": torch.ones(batch, 1, width),
        "question_mask_BL": torch.ones(batch, 1, dtype=torch.bool),
        "input_ids_BT": torch.ones(batch, n + 2, dtype=torch.long),
        "attention_mask_BT": torch.ones(batch, n + 2, dtype=torch.bool),
        "positions_PBT": torch.arange(n + 2).expand(1, batch, -1),
        "visual_slot_BN": columns + 1,
        "answer_ids_BA": torch.ones(batch, 1, dtype=torch.long),
        "answer_mask_BA": torch.ones(batch, 1, dtype=torch.bool),
    }
    return Context(visual_BND=visual_BND, **(fields | given))


def _random_weights(model: torch.nn.Module) -> None:
    """Weights large enough that attention is far from uniform and answers differ between prompts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            scale = 1.5 * parameter[0].numel() ** -0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale


def _images(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    random = np.random.RandomState(0)
    return [random.randint(256, size=(height, width, 3)).astype(np.uint8) for height, width in sizes]


def _llava() -> Family:
    torch.manual_seed(0)  # the class embedding is a random vector, which `_random_weights` leaves as it is
    tokenizer = build_tokenizer(WORDS)
    processor = build_processor(tokenizer)
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model = build_model(len(tokenizer), image_token_id, width=32, vision_layers=2, text_layers=2)
    _random_weights(model)
    vlm = LlavaVLM(model, processor, TEMPLATE)

    def stock_inputs(image: np.ndarray, question: str) -> dict[str, torch.Tensor]:
        text = TEMPLATE.format(question=question)
        return dict(processor(images=image, text=text, add_special_tokens=False, return_tensors="pt"))

    return Family(vlm, _images([(144, 144), (60, 100), (200, 150)]), stock_inputs)


def _qwen() -> Family:
    words = sorted({word for text in WORDS for word in text.split()})
    vocabulary = {word: i for i, word in enumerate([*QWEN_SPECIAL, *words])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=QWEN_SPECIAL[3:],
        padding_side="left",
    )
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 20})
    model = Qwen2_5_VLForConditionalGeneration(qwen_config(vocabulary))
    _random_weights(model)
    vlm = Qwen25VLM(model, Preprocessors(tokenizer, image_processor), QWEN_TEMPLATE)

    def stock_inputs(image: np.ndarray, question: str) -> dict[str, torch.Tensor]:
        inputs = dict(image_processor(images=[image], return_tensors="pt"))
        n = int(inputs["image_grid_thw"].prod()) // 4
        text = QWEN_TEMPLATE.format(question=question).replace("<|image_pad|>", "<|image_pad|> " * n)
        ids = torch.tensor([[vocabulary[word] for word in text.split()]])
        return inputs | {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == vocabulary["<|image_pad|>"]).int(),
        }

    # 3 x 4, 2 x 2 and 5 x 3 visual tokens; 56 pixels are a window of 2 x 2.
    return Family(vlm, _images([(84, 112), (56, 56), (140, 84)]), stock_inputs)


def qwen_config(vocabulary: dict[str, int]) -> Qwen2_5_VLConfig:
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": vocabulary["<eos>"],
        "pad_token_id": vocabulary["<pad>"],
    }
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "window_size": 56,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
    )
