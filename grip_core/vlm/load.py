"""From a folder or a hub id to a frozen VLM of a supported family."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import CONFIG_NAME, cached_file

from grip_core.config import Device, VlmConfig
from grip_core.errors import UserError
from grip_core.runs import hash_files
from grip_core.vlm.assemble import Positions
from grip_core.vlm.families.blip2 import Blip2VLM, InstructBlipVLM
from grip_core.vlm.families.gemma3 import Gemma3VLM
from grip_core.vlm.families.idefics3 import Idefics3VLM
from grip_core.vlm.families.internvl import InternVLM
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.families.llava_next import LlavaNextVLM
from grip_core.vlm.families.qwen_vl import Qwen3VLM, Qwen25VLM
from grip_core.vlm.frozen import ROWS_PER_FORWARD, FrozenVLM, Preprocessors
from grip_core.vlm.words import IMAGE_TOKEN

TEMPLATE_FILE = "prompt_template.txt"
QFORMER_TOKENIZER = "qformer_tokenizer"
MARK = re.compile(r"<[^<>\s{}]+>")


@dataclass(frozen=True)
class Family:
    """A supported family: its class, and the prompt it was trained on, where {bos} is the tokenizer's first token."""

    vlm: type[FrozenVLM]
    template: str | Mapping[str, str]
    """One, or by the `model_type` of the language model."""

    def template_for(self, config: PreTrainedConfig) -> str:
        """Raises UserError if the family has none for such a language model."""
        if isinstance(self.template, str):
            return self.template
        text = config.get_text_config().model_type
        if text not in self.template:
            raise UserError(
                f"vlm.template must be given for {config.model_type} models with a {text} language model; set it to "
                "the prompt that the model was trained on"
            )
        return self.template[text]


VICUNA = (
    "<s>A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions. USER: <image>\n{question} ASSISTANT:"
)
CHATML = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
FAMILIES = {
    "llava": Family(LlavaVLM, "<s>USER: <image>\n{question} ASSISTANT:"),
    "llava_next": Family(LlavaNextVLM, {"mistral": "<s>[INST] <image>\n{question} [/INST]", "llama": VICUNA}),
    "blip-2": Family(Blip2VLM, "<image>Question: {question} Answer:"),
    "instructblip": Family(InstructBlipVLM, "<image>{question}"),
    "idefics3": Family(Idefics3VLM, "{bos}User:<image>{question}<end_of_utterance>\nAssistant:"),
    "smolvlm": Family(Idefics3VLM, "{bos}User:<image>{question}<end_of_utterance>\nAssistant:"),
    "qwen2_5_vl": Family(
        Qwen25VLM, CHATML + "<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "qwen3_vl": Family(
        Qwen3VLM,
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "internvl": Family(
        InternVLM, "<|im_start|>user\n<img><IMG_CONTEXT></img>\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "gemma3": Family(
        Gemma3VLM,
        "<bos><start_of_turn>user\n\n\n<start_of_image><image_soft_token><end_of_image>\n\n{question}<end_of_turn>\n"
        "<start_of_turn>model\n",
    ),
}
"""By the `model_type` of the model's configuration."""


def configured_vlm(config: VlmConfig) -> FrozenVLM:
    """The VLM of that section of the settings, on this process's device. Raises UserError as `load_vlm` does."""
    return load_vlm(
        config.path,
        config.positions,
        config.dtype,
        config.device,
        config.quantization,
        template=config.template,
        rows_per_forward=config.rows_per_forward,
    )


def load_vlm(
    path: str,
    positions: Positions,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    quantization: str = "none",
    template: str | None = None,
    rows_per_forward: int = ROWS_PER_FORWARD,
) -> FrozenVLM:
    """The frozen VLM at `path`, with the prompt `template`, or else of its `prompt_template.txt`, or else its family's.

    It computes in `dtype`, one of torch's or its name; VlmConfig says what `device` and `quantization` may be.

    Raises UserError if there is no model at `path`, weights of it are missing, its family is not supported, its
    tokenizer lacks the image token, its image processor is another model's, its prompt lacks a placeholder, or there is
    no such device.
    """
    number = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(number, torch.dtype):
        raise UserError(f"vlm.dtype must be the name of a dtype of torch's, such as bfloat16, but got {dtype}")
    config = read_part(AutoConfig, path)
    model_type = config.model_type
    if model_type not in FAMILIES:
        raise UserError(
            f"vlm.path: {path} is of the family {model_type}, which is not supported; supported are: "
            f"{', '.join(FAMILIES)}. To add one, write a subclass of FrozenVLM "
            "(grip_core/vlm/frozen.py) with its visual_features, and name it in FAMILIES (grip_core/vlm/load.py)"
        )
    family = FAMILIES[model_type]
    # Not AutoProcessor: where torchvision is there, it takes its image processor, which resizes otherwise than PIL's;
    # where it is not, it fails on the video processor of a family that has one.
    processor = Preprocessors(
        read_part(AutoTokenizer, path),
        read_part(AutoImageProcessor, path, backend="pil"),
        read_part(AutoTokenizer, path, subfolder=QFORMER_TOKENIZER) if family.vlm.reads_questions else None,
    )
    own = Path(path) / TEMPLATE_FILE
    if template is None:
        template = own.read_text().rstrip("\n") if own.is_file() else family.template_for(config)
    template = template.replace("{bos}", processor.tokenizer.bos_token or "")
    _check_marks(template, processor.tokenizer)
    model, loaded = read_part(
        AutoModelForImageTextToText,
        path,
        dtype=number,
        device_map=_device_map(device),
        output_loading_info=True,
        **_quantized(quantization, device, number),
    )
    if missing := sorted(loaded["missing_keys"]):
        raise UserError(
            f"vlm.path: {path} must hold all weights of a {model_type} model, but lacks {len(missing)}, such as "
            f"{missing[0]}; take a checkpoint of the whole model"
        )
    vlm = family.vlm(model, processor, template, positions)
    vlm.rows_per_forward = rows_per_forward
    known = len(processor.tokenizer)
    if vlm.image_token_id is None:
        raise UserError(
            f"vlm.path: the configuration of {path} must name the image token, but does not; take a newer copy of the "
            "model, or add image_token_index to its config.json"
        )
    if vlm.image_token_id >= known:
        raise UserError(
            f"vlm.path: the tokenizer of {path} must know the model's image token {vlm.image_token_id}, but has only "
            f"{known} tokens; take the tokenizer that was saved with the model"
        )
    for placeholder in ("{question}", vlm.placeholder):
        count = template.count(placeholder)
        if count != 1:
            raise UserError(
                f"vlm.template must hold {placeholder} exactly once, but {template!r} holds it {count} times; mend "
                f"it, or {own}"
            )
    _check_images(vlm, path)
    return vlm


def _check_images(vlm: FrozenVLM, path: str) -> None:
    """One image tells whether the image processor is the model's, before hours of others."""
    try:
        vlm.visual_features([np.zeros((48, 64, 3), np.uint8)], ["what ?"])
    except torch.OutOfMemoryError:
        raise
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise UserError(
            f"vlm.path: the image processor of {path} must be its model's, but the model cannot take what it makes of "
            f"an image ({' '.join(str(error).split())[:300]}); take the preprocessor_config.json of the same model"
        ) from None


def _check_marks(template: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Models of one family may be trained on different prompts; another one's marks are no tokens of this one."""
    known = {*tokenizer.get_vocab(), IMAGE_TOKEN}  # which has an error of its own, and which BLIP adds
    if unknown := [mark for mark in MARK.findall(template) if mark not in known]:
        raise UserError(
            f"vlm.template must hold marks that the model's tokenizer knows, but it does not know {unknown[0]}; set "
            "vlm.template to the prompt that the model was trained on"
        )


def _device_map(device: str) -> str | dict[str, str]:
    """What transformers takes for it."""
    if device not in get_args(Device):
        raise UserError(f"vlm.device must be one of {', '.join(get_args(Device))}, but got {device}")
    if device == "split":
        return "auto"
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return {"": "cpu"}
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise UserError(
            f"vlm.device: {device} must have a GPU for each of {number + 1} processes, but there are "
            f"{torch.cuda.device_count()}; take auto, and as many vlm.processes as there are GPUs"
        )
    return {"": f"cuda:{number}"}


def _quantized(quantization: str, device: str, dtype: torch.dtype) -> dict[str, Any]:
    if quantization == "none":
        return {}
    if device == "cpu" or not torch.cuda.is_available():
        raise UserError(f"vlm.quantization: {quantization} needs a GPU, but there is none; take none")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"vlm.quantization: {quantization} needs bitsandbytes; run: pip install bitsandbytes")
    config = BitsAndBytesConfig(
        **{f"load_in_{quantization}": True}, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config}


def fingerprint(path: str) -> str:
    """What tells one model from another: a hash of the folder's files, or the commit of a hub id."""
    folder = Path(path)
    if folder.is_dir():
        return hash_files(file for file in folder.iterdir() if file.is_file())
    with _reading(path):
        return Path(str(cached_file(path, CONFIG_NAME))).parent.name  # the Hub's cache has a folder for each commit


def read_part(kind, path: str, **options):
    """What transformers reads of a kind from a folder or a hub id. Raises UserError if it cannot."""
    with _reading(path):
        return kind.from_pretrained(path, **options)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            f"vlm.path: {path} does not fit into the GPU's memory; take vlm.dtype: bfloat16, vlm.quantization: 8bit "
            "or vlm.device: split"
        ) from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error.__cause__, GatedRepoError):
            raise UserError(
                f"vlm.path: {path} is gated; ask for access on its page on the Hub, then run: hf auth login"
            ) from None
        raise UserError(f"vlm.path: no model can be read from {path}: {' '.join(str(error).split())}") from None
