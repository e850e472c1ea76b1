"""The supervised warm-up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from grip_core.config.section import Count, Rate, Section, Seed


class WarmupConfig(Section):
    """The supervised warm-up; its checkpoint is the reference policy and the control arm."""

    teacher: Literal["attention", "gradient", "leave_group_out"]
    sharpness: Annotated[float, Field(gt=0.0)]
    """Exponent on the teacher's distribution: attention is nearly flat over many tokens."""
    steps: Count
    prompts_per_step: Count
    learning_rate: Rate
    seed: Seed
