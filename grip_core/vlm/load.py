"""From a folder or a hub id to a frozen VLM of a supported family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from grip_core.errors import UserError
from grip_core.runs import hash_files
from grip_core.vlm.assemble import Positions
from grip_core.vlm.frozen import FrozenVLM, Preprocessors
from grip_core.vlm.llava import LlavaVLM
from grip_core.vlm.qwen2_5_vl import Qwen25VLM

TEMPLATE_FILE = "prompt_template.txt"


@dataclass(frozen=True)
class Family:
    """A supported family: its class, and the prompt it was trained on."""

    vlm: type[FrozenVLM]
    template: str


FAMILIES = {
    "llava": Family(LlavaVLM, "<s>USER: <image>\n{question} ASSISTANT:"),
    "qwen2_5_vl": Family(
        Qwen25VLM,
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
}
"""By the `model_type` of the model's configuration."""


def load_vlm(path: str, positions: Positions, dtype: str = "float32") -> FrozenVLM:
    """The frozen VLM at `path`, with the prompt of its `prompt_template.txt` or, without that file, its family's own.

    It computes in `dtype`, a name of torch's.

    Raises UserError if there is no model at `path`, its family is not supported, or its prompt lacks a placeholder.
    """
    model_type = _read(AutoConfig, path).model_type
    if model_type not in FAMILIES:
        raise UserError(
            f"vlm.path: {path} is of the family {model_type}, which is not supported; supported are: "
            f"{', '.join(FAMILIES)}. To add one, implement the four abstract members of FrozenVLM "
            "(grip_core/vlm/frozen.py) and name it in FAMILIES (grip_core/vlm/load.py)"
        )
    family = FAMILIES[model_type]
    # Not AutoProcessor: where torchvision is there, it takes its image processor, which resizes otherwise than PIL's;
    # where it is not, it fails on the video processor of a family that has one.
    processor = Preprocessors(_read(AutoTokenizer, path), _read(AutoImageProcessor, path, backend="pil"))
    template_file = Path(path) / TEMPLATE_FILE
    template = template_file.read_text().rstrip("\n") if template_file.is_file() else family.template
    model = _read(AutoModelForImageTextToText, path, dtype=getattr(torch, dtype))
    vlm = family.vlm(model, processor, template, positions)
    image = processor.tokenizer.convert_ids_to_tokens(vlm.image_token_id)
    for placeholder in ("{question}", image):
        count = template.count(placeholder)
        if count != 1:
            raise UserError(f"{template_file} must hold {placeholder} exactly once, but holds it {count} times")
    return vlm


def fingerprint(path: str) -> str:
    """What tells one model from another: a hash of the folder's files, or the commit of a hub id."""
    folder = Path(path)
    if folder.is_dir():
        return hash_files(file for file in folder.iterdir() if file.is_file())
    return str(_read(AutoConfig, path)._commit_hash)


def _read(kind, path: str, **options):
    try:
        return kind.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"vlm.path: no model can be read from {path}: {' '.join(str(error).split())}") from None
