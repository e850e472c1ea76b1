"""Tiny random models of the real classes, one a family, with the inputs that the stock model takes for a prompt.

Processors are transformers' own where they can be made without a download; the tokenizer is trained here, of the kind
that most decoders have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from grip_core.vlm.context import Context
from grip_core.vlm.embedded import build_model, build_processor
from grip_core.vlm.families.blip2 import Blip2VLM, InstructBlipVLM
from grip_core.vlm.families.gemma3 import Gemma3VLM
from grip_core.vlm.families.idefics3 import Idefics3VLM
from grip_core.vlm.families.internvl import InternVLM
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.families.llava_next import LlavaNextVLM
from grip_core.vlm.families.qwen_vl import Qwen3VLM, Qwen25VLM
from grip_core.vlm.frozen import FrozenVLM, Preprocessors
from grip_core.vlm.words import TEMPLATE, build_tokenizer

# Models this small gain nothing from a second thread, and lose much where another process wants the core. Here, for
# workers that tests start import this module as well, and are to round as the tests do.
torch.set_num_threads(1)

QUESTIONS = ["what color ?", "is there a red circle in row 2 ?", "which ?"]
ANSWERS = ["red", "yes it is", "2 4"]
WORDS = [*QUESTIONS, *ANSWERS, "blue green no"]
SQUARES = [(144, 144), (60, 100), (200, 150)]
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Family:
    """A family's VLM, a batch of raw prompts, and the inputs that the stock model takes for one prompt."""

    vlm: FrozenVLM
    images: Sequence[np.ndarray]
    stock_inputs: Callable[[np.ndarray, str], Inputs]

    def context(self, index: Sequence[int] = (0, 1, 2)) -> Context:
        return self.vlm.encode(
            [self.images[i] for i in index], [QUESTIONS[i] for i in index], [ANSWERS[i] for i in index]
        )


def random_weights(model: torch.nn.Module) -> None:
    """Weights large enough that attention is far from uniform and answers differ between prompts."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            scale = 1.5 * parameter[0].numel() ** -0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale


def random_images(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    random = np.random.RandomState(0)
    return [random.randint(256, size=(height, width, 3)).astype(np.uint8) for height, width in sizes]


MERGES = 40
"""Few, so that most words are several tokens; a word after a space is other tokens than one after none."""


def bpe_tokenizer(special: Sequence[str], bos: str | None = None, **more: str) -> PreTrainedTokenizerFast:
    """Byte-level, with `<pad>`, `<eos>`, `<unk>` and the `special` tokens; `bos` before every text."""
    named = ["<pad>", "<eos>", "<unk>", *([bos] if bos else []), *special]
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=len(named) + len(alphabet) + MERGES,
        special_tokens=named,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator([*WORDS, "question : answer : user : assistant :"], trainer)
    if bos:
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
        padding_side="left",
        **({"bos_token": bos} if bos else {}),
        **more,
    )


def text_config(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """Of a small decoder, whatever its kind."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def vision_config(image_size: int, patch_size: int, **more: Any) -> dict[str, Any]:
    """Of a small encoder."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": patch_size,
        **more,
    }


def by_processor(processor: Any, prompt: Callable[[str], str]) -> Callable[[np.ndarray, str], Inputs]:
    """Stock inputs as the family's own processor makes them."""

    def stock_inputs(image: np.ndarray, question: str) -> Inputs:
        return dict(processor(images=[image], text=prompt(question), return_tensors="pt", padding=True))

    return stock_inputs


def llava() -> Family:
    torch.manual_seed(0)  # the class embedding is a random vector, which `random_weights` leaves as it is
    tokenizer = build_tokenizer(WORDS)
    processor = build_processor(tokenizer)
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model = build_model(len(tokenizer), image_token_id, width=32, vision_layers=2, text_layers=2)
    random_weights(model)
    vlm = LlavaVLM(model, processor, TEMPLATE)

    def stock_inputs(image: np.ndarray, question: str) -> Inputs:
        text = TEMPLATE.format(question=question)
        return dict(processor(images=image, text=text, add_special_tokens=False, return_tensors="pt"))

    return Family(vlm, random_images(SQUARES), stock_inputs)


def llava_of_siglip() -> Family:
    """LLaVA with a tower that has no class token, all of whose tokens are taken."""
    tokenizer = build_tokenizer(WORDS)
    processor = build_processor(tokenizer)
    config = hf.LlavaConfig(
        vision_config=hf.SiglipVisionConfig(**vision_config(144, 12)),
        text_config=hf.LlamaConfig(**text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = hf.LlavaForConditionalGeneration(config)
    random_weights(model)
    return Family(LlavaVLM(model, processor, TEMPLATE), random_images(SQUARES), None)


def llava_next() -> Family:
    torch.manual_seed(0)  # the class embedding and the row's end are random vectors
    tokenizer = bpe_tokenizer(["<image>"])
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
    )
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**vision_config(32, 8)),
        text_config=hf.LlamaConfig(**text_config(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
        vision_feature_layer=-2,
    )
    model = hf.LlavaNextForConditionalGeneration(config)
    random_weights(model)
    processor = hf.LlavaNextProcessor(
        image_processor,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )
    template = "user : <image> {question} assistant :"
    vlm = LlavaNextVLM(model, Preprocessors(tokenizer, image_processor), template)
    # One tile wide, four tiles, two tiles of which a part is padding.
    stock = by_processor(processor, lambda question: template.format(question=question))
    return Family(vlm, random_images([(40, 80), (64, 64), (90, 40)]), stock)


def blip2_config(text: Any, tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    former = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 1,
        **more,
    }
    return {
        "vision_config": vision_config(32, 8),
        "qformer_config": former,
        "text_config": text.to_dict(),
        "num_query_tokens": 14,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
    }


def _blip2(text: Any, tokenizer: PreTrainedTokenizerFast) -> Family:
    torch.manual_seed(0)
    model = hf.Blip2ForConditionalGeneration(hf.Blip2Config(**blip2_config(text, tokenizer)))
    random_weights(model)
    image_processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    processor = hf.Blip2Processor(image_processor, tokenizer, num_query_tokens=14)
    template = "<image>question : {question} answer :"
    vlm = Blip2VLM(model, Preprocessors(tokenizer, image_processor), template)
    stock = by_processor(processor, lambda question: f"question : {question} answer :")
    return Family(vlm, random_images(SQUARES), stock)


def blip2_opt() -> Family:
    tokenizer = bpe_tokenizer(["<image>"], bos="<s>")
    text = text_config(tokenizer, ffn_dim=64, word_embed_proj_dim=32)
    return _blip2(hf.OPTConfig(**text), tokenizer)


def blip2_llama() -> Family:
    """MiniGPT-4's architecture."""
    tokenizer = bpe_tokenizer(["<image>"], bos="<s>")
    return _blip2(hf.LlamaConfig(**text_config(tokenizer)), tokenizer)


def instructblip() -> Family:
    torch.manual_seed(0)
    tokenizer = bpe_tokenizer(["<image>"], bos="<s>")
    former_tokenizer = bpe_tokenizer([], bos="[CLS]")
    former_tokenizer.padding_side = "right"
    text = hf.LlamaConfig(**text_config(tokenizer))
    config = hf.InstructBlipConfig(**blip2_config(text, tokenizer, vocab_size=len(former_tokenizer)))
    model = hf.InstructBlipForConditionalGeneration(config)
    random_weights(model)
    image_processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    processor = hf.InstructBlipProcessor(image_processor, tokenizer, former_tokenizer, num_query_tokens=14)
    template = "<image>{question} answer :"
    parts = Preprocessors(tokenizer, image_processor, former_tokenizer)
    vlm = InstructBlipVLM(model, parts, template)
    return Family(vlm, random_images(SQUARES), by_processor(processor, lambda question: f"{question} answer :"))


IDEFICS_SPECIAL = [
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
]


def _idefics(config: Any, model: Any, image_processor: Any, processor: Any) -> Family:
    tokenizer = bpe_tokenizer(IDEFICS_SPECIAL)
    vision = vision_config(32, 4)
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    text = hf.LlamaConfig(**text_config(tokenizer)).to_dict()
    network = model(
        config(vision_config=vision, text_config=text, scale_factor=2, image_token_id=image_token_id, pad_token_id=0)
    )
    random_weights(network)
    images = image_processor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = "user : <image> {question} assistant :"
    vlm = Idefics3VLM(network, Preprocessors(tokenizer, images), template)
    own = processor(images, tokenizer, image_seq_len=16)
    # 2 x 2 tiles, 1 x 2, 2 x 1.
    stock = by_processor(own, lambda question: template.format(question=question))
    return Family(vlm, random_images([(60, 64), (30, 64), (64, 20)]), stock)


def idefics3() -> Family:
    return _idefics(
        hf.Idefics3Config, hf.Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil, hf.Idefics3Processor
    )


def smolvlm() -> Family:
    class Processor(hf.Idefics3Processor):
        """SmolVLM's own wants a video processor, which wants torchvision; of images both make the same."""

    return _idefics(hf.SmolVLMConfig, hf.SmolVLMForConditionalGeneration, SmolVLMImageProcessorPil, Processor)


QWEN_SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TEMPLATE = "what <|vision_start|><|image_pad|><|vision_end|>{question} is"


def _qwen(kind: type[FrozenVLM], model_of: Callable[[PreTrainedTokenizerFast], Any], patch: int) -> Family:
    torch.manual_seed(0)
    tokenizer = bpe_tokenizer(QWEN_SPECIAL)
    unit = 2 * patch
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": unit * unit, "longest_edge": unit * unit * 20}
    )
    model = model_of(tokenizer)
    random_weights(model)
    vlm = kind(model, Preprocessors(tokenizer, image_processor), QWEN_TEMPLATE)

    def stock_inputs(image: np.ndarray, question: str) -> Inputs:
        inputs = dict(image_processor(images=[image], return_tensors="pt"))
        n = int(inputs["image_grid_thw"].prod()) // 4
        text = QWEN_TEMPLATE.format(question=question).replace("<|image_pad|>", "<|image_pad|>" * n)
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        return inputs | {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int(),
        }

    # 3 x 4, 2 x 2 and 5 x 3 visual tokens.
    sizes = [(3 * unit, 4 * unit), (2 * unit, 2 * unit), (5 * unit, 3 * unit)]
    return Family(vlm, random_images(sizes), stock_inputs)


def _qwen_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(QWEN_SPECIAL), strict=True))


def qwen2_5_vl() -> Family:
    def model(tokenizer: PreTrainedTokenizerFast) -> Any:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
        vision = {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 14,
            "window_size": 56,  # 2 x 2 merged tokens
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        }
        text = text_config(tokenizer, rope_parameters=rope, num_hidden_layers=2)
        config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
        return hf.Qwen2_5_VLForConditionalGeneration(config)

    return _qwen(Qwen25VLM, model, 14)


def qwen3_vl() -> Family:
    def model(tokenizer: PreTrainedTokenizerFast) -> Any:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
        vision = {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        }
        text = text_config(tokenizer, rope_parameters=rope, head_dim=16, num_hidden_layers=4)
        config = hf.Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_tokens(tokenizer))
        return hf.Qwen3VLForConditionalGeneration(config)

    return _qwen(Qwen3VLM, model, 16)


def internvl() -> Family:
    torch.manual_seed(0)  # the class embedding is a random vector
    special = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = bpe_tokenizer(special, extra_special_tokens={**names, "video_token": "<video>"})
    vision = {**vision_config(32, 8), "image_size": [32, 32], "patch_size": [8, 8]}
    config = hf.InternVLConfig(
        vision_config=vision,
        text_config=hf.Qwen2Config(**text_config(tokenizer)).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    model = hf.InternVLForConditionalGeneration(config)
    random_weights(model)
    image_processor = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, min_patches=1, max_patches=4)
    template = "user : <img><IMG_CONTEXT></img> {question} assistant :"
    vlm = InternVLM(model, Preprocessors(tokenizer, image_processor), template)

    def stock_inputs(image: np.ndarray, question: str) -> Inputs:
        inputs = dict(image_processor(images=[image], crop_to_patches=True, return_tensors="pt"))
        n = 4 * int(inputs.pop("num_patches")[0])
        text = template.format(question=question).replace("<IMG_CONTEXT>", "<IMG_CONTEXT>" * n)
        return inputs | dict(tokenizer(text, add_special_tokens=False, return_tensors="pt"))

    # Three tiles in a row, none, two by two.
    return Family(vlm, random_images([(30, 90), (32, 32), (64, 64)]), stock_inputs)


def gemma3() -> Family:
    special = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokenizer = bpe_tokenizer(special, bos="<bos>")
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**vision_config(32, 4), vision_use_head=False),
        text_config=hf.Gemma3TextConfig(
            **text_config(tokenizer),
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        mm_tokens_per_image=16,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    model = hf.Gemma3ForConditionalGeneration(config)
    random_weights(model)
    image_processor = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    template = "<bos> user : <start_of_image><image_soft_token><end_of_image> {question} assistant :"
    vlm = Gemma3VLM(model, Preprocessors(tokenizer, image_processor), template)

    def stock_inputs(image: np.ndarray, question: str) -> Inputs:
        pixels = image_processor(images=[image], return_tensors="pt")["pixel_values"]
        text = template.format(question=question).replace("<image_soft_token>", "<image_soft_token>" * 16)
        inputs = dict(tokenizer(text, add_special_tokens=False, return_tensors="pt"))
        image_token = tokenizer.convert_tokens_to_ids("<image_soft_token>")
        return inputs | {"pixel_values": pixels, "token_type_ids": (inputs["input_ids"] == image_token).long()}

    return Family(vlm, random_images(SQUARES), stock_inputs)


BUILDERS: Mapping[str, Callable[[], Family]] = {
    build.__name__: build
    for build in (
        llava, llava_next, blip2_opt, blip2_llama, instructblip, idefics3, smolvlm, qwen2_5_vl, qwen3_vl, internvl,
        gemma3,
    )
}  # fmt: skip
"""By name."""
