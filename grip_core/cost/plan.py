"""What training on a frozen VLM takes: of a device's memory, and of the disk. Rough, and from configurations alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from grip_core.config import GrpoConfig, VlmConfig
from grip_core.cost.memory import STREAMS
from grip_core.vlm.load import read_part

BYTES = {"float32": 4.0, "bfloat16": 2.0}
QUANTIZED = {"8bit": 1.0, "4bit": 0.5}
TEXT, ANSWER = 64, 8  # tokens of a prompt's text and of an answer, about what visual question answering has


@dataclass(frozen=True)
class Plan:
    """Bytes."""

    weights: int
    """The VLM's."""
    prompts: int
    """A rollout's prompts, and those of validation, which are encoded once."""
    forward: int
    """The VLM's largest forward without gradients: what a layer computes, and the answers' logits."""
    cache: int
    """The features, on the disk, of which there may be less."""

    @property
    def device(self) -> int:
        """All that lies on the device at once."""
        return self.weights + self.prompts + self.forward


@dataclass(frozen=True)
class Work:
    """What a run asks for."""

    images: int
    """That are cached."""
    tokens: int
    """Visual tokens of each."""
    image_size: int
    """Numbers that they are."""
    budget: int
    """The most of them that a selection keeps."""
    validation: int
    """Questions."""
    whole: int
    """Prompts that are answered at once with every visual token."""


def memory_plan(vlm: VlmConfig, grpo: GrpoConfig, work: Work) -> Plan:
    """Of a run of GRPO. Raises UserError if the VLM's configuration cannot be read."""
    config = read_part(AutoConfig, vlm.path)
    with torch.device("meta"):
        parameters = sum(one.numel() for one in AutoModelForImageTextToText.from_config(config).parameters())
    text = config.get_text_config()
    number = BYTES[vlm.dtype]
    mlp = getattr(text, "intermediate_size", 4 * text.hidden_size)
    rows = min(vlm.rows_per_forward, -(-grpo.prompts_per_step * grpo.group_size // vlm.processes))

    def forward(rows: int, visual: int) -> float:
        layer = rows * (TEXT + visual) * (STREAMS * text.hidden_size + 3 * mlp) * number
        return layer + 2 * rows * ANSWER * text.vocab_size * 4

    return Plan(
        weights=int(parameters * QUANTIZED.get(vlm.quantization, number)),
        prompts=int(work.image_size * (grpo.prompts_per_step * (4 + number) + work.validation * 4)),
        forward=int(max(forward(rows, work.budget), forward(min(vlm.rows_per_forward, work.whole), work.tokens))),
        cache=int(work.images * work.image_size * number),
    )


def in_words(plan: Plan, processes: int, max_gigabytes: float) -> str:
    """One line."""
    each = "" if processes == 1 else f" on each of {processes} devices"
    return (
        f"memory: about {_gigabytes(plan.device)}{each} (the VLM {_gigabytes(plan.weights)}, a forward "
        f"{_gigabytes(plan.forward)}, prompts {_gigabytes(plan.prompts)}); features on the disk: "
        f"{_gigabytes(plan.cache)} of at most {max_gigabytes:g} GB"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
