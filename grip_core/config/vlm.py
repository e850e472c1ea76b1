"""The frozen VLM: which one, how the embedded one is trained, and what of its answers is cached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from grip_core.config.data import PerSplit
from grip_core.config.section import Count, NonNegative, Rate, Section, Seed

Device = Literal["auto", "split", "cpu", "cuda"]
EMBEDDED_N = 144  # visual tokens of the embedded VLM


class VlmConfig(Section):
    """Which frozen VLM prunes: a folder or a hub id of a supported family."""

    path: str
    template: str | None
    """The prompt around "{question}", with the image's placeholder in it; null: its folder's, or its family's."""
    positions: Literal["original", "compact"]
    dtype: Literal["float32", "bfloat16"]
    """What the VLM computes in. bfloat16 is faster only where the hardware has it; the scorer stays in float32."""
    quantization: Literal["none", "8bit", "4bit"]
    """Of the VLM's weights, by bitsandbytes."""
    device: Device
    """auto: the GPU, if there is one; split: over all GPUs that are visible, as a model may need that fits on none.
    Which GPUs there are is CUDA_VISIBLE_DEVICES' to say."""
    rows_per_forward: Count
    """Selections that the VLM answers at once at most, in training; fewer take less memory."""
    processes: Count
    """Of one GRPO run, each with the VLM on a GPU of its own, which answers for a share of the selections."""

    @model_validator(mode="after")
    def _devices_suffice(self):
        if self.processes > 1 and self.device != "auto":
            raise ValueError(f"device must be auto with processes={self.processes}, but got {self.device}")
        return self


class Phase(Section):
    """A phase of the embedded VLM's training.

    "vision": the tower, on its auxiliary targets alone. "captions": short prompts about single objects; the tower
    stands still. "easy": the questions about one object; the tower stands still. "relations": short prompts that
    combine objects.
    "all": every question. From "relations" on everything trains.
    """

    name: Literal["vision", "captions", "easy", "relations", "all"]
    steps: Count


class PretrainConfig(Section):
    """Training of the embedded VLM."""

    width: Annotated[int, Field(ge=16, multiple_of=16)]
    vision_layers: Count
    text_layers: Count
    phases: Annotated[list[Phase], Field(min_length=1)]
    """In their order; the first must be "vision"."""
    images_per_step: Count
    questions_per_image: Count
    learning_rate: Rate
    auxiliary_weight: NonNegative
    weight_decay: NonNegative
    seed: Seed

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @model_validator(mode="after")
    def _vision_first(self):
        if self.phases[0].name != "vision":
            raise ValueError(f"phases must begin with vision, but got {self.phases[0].name}")
        return self


class FeaturesConfig(Section):
    """How much of every benchmark and split enters the feature cache: the first images, the first questions of each."""

    images: PerSplit
    questions_per_image: Count
    batch_size: Count
    max_gigabytes: Annotated[float, Field(gt=0)]
    """What the cache may take on the disk. Images that do not fit are encoded whenever they are asked for."""

    @model_validator(mode="after")
    def _several_test_images(self):
        if self.images.test < 2:
            raise ValueError(f"images.test must be at least 2, which an interval needs, but got {self.images.test}")
        return self
