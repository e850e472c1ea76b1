"""Training by supervised baselines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from grip_core.config.items import FilterConfig
from grip_core.config.section import Count, NonNegative, Rate, Section


class SupervisedConfig(Section):
    """Training by a relaxation of the selection instead of by GRPO; grip_core/supervised/ has one file a method."""

    method: Literal["none", "gumbel", "soft_topk", "diffprune", "distill"]
    """none: training is by GRPO."""
    steps: Count
    prompts_per_step: Count
    learning_rate: Rate
    lr_schedule: Literal["constant", "linear", "cosine"]
    """After the warm-up of `lr_warmup_steps`."""
    lr_warmup_steps: Annotated[int, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    temperature: Annotated[float, Field(gt=0.0)]
    """gumbel, soft_topk, diffprune: what scores are divided by in the soft mask."""
    bce_low: NonNegative
    bce_high: NonNegative
    """soft_topk: weight of the pull towards a hard mask, at the first step and at the last."""
    sharpness: Annotated[float, Field(gt=0.0)]
    """distill: exponent on the teacher's distribution."""
    filter: FilterConfig
    evaluate_every: Count
    """Optimizer steps between evaluations of the mode on validation questions."""
    checkpoint_every: Count
