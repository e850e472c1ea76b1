"""When training has failed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from grip_core.config.section import Count, NonNegative, Section, Share


class CollapseConfig(Section):
    """When a run counts as collapsed; grip_core/rl/collapse.py looks for it."""

    entropy: Share
    """Entropy, as a share of a uniform policy's, below which the policy has stopped exploring."""
    kl: Annotated[float, Field(gt=0.0)]
    """KL to the warm-up per pick, nats, above which the policy has lost its anchor."""
    accuracy_drop: NonNegative
    """Validation accuracy so far below the warm-up's, ..."""
    evaluations: Count
    """... this many evaluations in a row. Entropy and KL have to hold for as many rollouts."""
    stop: bool
    """Whether a collapsed run is ended there; its metrics say so in any case."""
