"""What is measured after training, and what is told of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from grip_core.config.section import Count, Section, Seed, Several, Share


class EvaluateConfig(Section):
    """The grid of the final evaluation on the test split."""

    budgets: Annotated[list[Count], *Several]
    baselines: Annotated[list[str], *Several]
    random_seeds: Annotated[list[Seed], *Several]
    batch_size: Count
    headline_share: Share
    """The headline number averages the budgets of at most this share of the tokens."""


class TimingConfig(Section):
    """What the cost measurement runs."""

    budgets: Annotated[list[Count], *Several]
    """Of the embedded VLM's tokens; another shape keeps the same shares of its own."""
    methods: Annotated[list[str], *Several]
    """Baselines, and grip, warmup and full."""
    batch_sizes: Annotated[list[Count], *Several]
    repetitions: Annotated[int, Field(ge=3)]
    """Rounds that count; quartiles need a few."""
    warmups: Count
    """Rounds before them that do not."""


class ReportConfig(Section):
    """The HTML report."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    examples: Count
    example_budget: Count
