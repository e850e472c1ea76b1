"""Settings of params.yaml by their keys: what studies vary."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from grip_core.config import Params, parse
from grip_core.errors import UserError

Value = bool | int | float | str
Setting = Value | list[Value]
Settings = dict[str, Setting]
"""Values by their key in params.yaml, as "grpo.beta"."""

GROUP_SHAPE = ("grpo.prompts_per_step", "grpo.group_size", "grpo.num_iterations")
IDLE = "makes no difference: the arm's principle of training, or its start, does not read it"
"""What is wrong with `idle_keys`."""
RESCALING = (
    "grpo.scale_rewards",
    "grpo.std_floor",
    "grpo.loss_type",
    "grpo.importance_level",
    "grpo.baseline",
    "grpo.distribution",
    "grpo.budget_penalty",
    "grpo.dead_groups",
)
"""Keys that multiply the gradient beside what they are for, as all weights and bounds of the reward do."""


def changed_params(params: Params, settings: Mapping[str, Any], source: str) -> Params:
    """Params with other values, checked as a whole. Raises UserError for an unknown key or a value out of range."""
    raw = copy.deepcopy(params.model_dump())
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = raw
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None  # type: ignore[assignment]
        if not isinstance(place, dict) or name not in place:
            raise UserError(f"{source}: {key} is not a key of params.yaml; see grip_core/config/ for what there is")
        place[name] = value
    return parse(Params, raw, source)


def any_pace(params: Params, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a pace that goes with them: steps must be multiples of num_iterations, and those of a trial
    follow from its compute, so that the params' own need not be."""
    iterations = settings.get("grpo.num_iterations")
    if type(iterations) is not int or iterations < 1:
        iterations = params.grpo.num_iterations  # the schema then speaks of num_iterations alone
    return {**settings, **dict.fromkeys(("grpo.steps", "grpo.evaluate_every", "grpo.checkpoint_every"), iterations)}


def idle_keys(settings: Mapping[str, Any], keys: Collection[str]) -> list[str]:
    """Those of the keys that a run with all these settings does not read, for its principle or its start does not."""
    untaught = [key for key in keys if key.startswith("warmup.") and settings["grpo.start"] == "untrained"]
    if settings["supervised.method"] == "none":
        return untaught + [key for key in keys if key.startswith("supervised.") and key != "supervised.method"]
    return untaught + [key for key in keys if key.startswith("grpo.") and key not in (*GROUP_SHAPE, "grpo.start")]


def hashable(value: Setting) -> Any:
    """A value that may be a member of a set."""
    return tuple(value) if isinstance(value, list) else value


def rescaled(settings: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """The keys by which the gradient of a run of `settings` has another scale than the base's.

    Between such runs a difference may be one of step sizes: what Adam does not cancel of a scale is how the gradient
    compares with max_grad_norm, beta and the entropy bonus.
    """
    changed = [key for key, value in settings.items() if value != base.get(key)]
    return [key for key in changed if key in RESCALING or key.startswith("grpo.reward.")]
