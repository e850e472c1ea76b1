"""Settings of params.yaml by their keys: what studies vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grip_core.config import Params

Value = bool | int | float | str
Setting = Value | list[Value]
Settings = dict[str, Setting]
"""Values by their key in params.yaml, as "grpo.beta"."""

RATE = "grpo.learning_rate"
RESCALING = (
    "grpo.scale_rewards",
    "grpo.std_floor",
    "grpo.loss_type",
    "grpo.importance_level",
    "grpo.baseline",
    "grpo.distribution",
)
"""Keys that multiply the gradient beside what they are for, as all weights and bounds of the reward do."""


def by_key(params: Params) -> dict[str, Any]:
    """All settings."""
    return _flat(params.model_dump(), "")


def rescaled(settings: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """The keys by which the gradient of a run of `settings` has another scale than the base's.

    Between such runs a difference may be one of step sizes: what Adam does not cancel of a scale is how the gradient
    compares with max_grad_norm, beta and the entropy bonus.
    """
    changed = [key for key, value in settings.items() if value != base.get(key)]
    return [key for key in changed if key in RESCALING or key.startswith("grpo.reward.")]


def _flat(sections: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in sections.items():
        values |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values
