"""From a study's space to a trial's settings, and from settings to checked params."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import optuna

from grip_core.config import Params
from grip_core.errors import UserError
from studies.definition import Definition, Dimension
from studies.settings import GROUP_SHAPE, Settings, Value, any_pace, changed_params

DERIVED = {
    "grpo.steps": "compute.selections",
    "grpo.checkpoint_every": "compute.rungs and compute.checkpoints_per_rung",
    "grpo.evaluate_every": "compute.rungs",
    "grpo.seeds": "seeds",
}
"""Keys that a trial's share of the compute decides, and what decides them."""


def suggest(trial: optuna.trial.Trial, definition: Definition) -> Settings:
    """A trial's values for the keys that its other values let it have; what it already has is not drawn again."""
    drawn: dict[str, Value] = {}
    for key in in_order(definition.searched):
        dimension = definition.searched[key]
        if all(drawn.get(other) in values for other, values in dimension.when.items()):
            drawn[key] = suggest_one(trial, key, dimension)
    return definition.settings(drawn)


def suggest_one(trial: optuna.trial.Trial, key: str, dimension: Dimension) -> Value:
    """A value for one key, by the kind of its dimension."""
    if dimension.choices is not None:
        chosen: Any = trial.suggest_categorical(key, dimension.choices)
        return chosen
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=dimension.log)
    assert low is not None  # the schema's own rule
    assert high is not None
    return trial.suggest_float(key, low, high, log=dimension.log)


def in_order(space: Mapping[str, Dimension]) -> list[str]:
    """The keys, each after those that its `when` names. Raises UserError for conditions that go round in a circle."""
    ordered: list[str] = []
    left = list(space)
    while left:
        ready = [key for key in left if not (set(space[key].when) & set(left))]
        if not ready:
            raise UserError(f"space: the conditions of {', '.join(left)} go round in a circle; remove one `when`")
        ordered += ready
        left = [key for key in left if key not in ready]
    return ordered


def trial_params(definition: Definition, base: Params, settings: Settings, source: str | None = None) -> Params:
    """The params of a trial: the base, the study's own, the trial's settings, and what its compute comes to.

    Every trial scores `compute.selections` selections a seed. Raises UserError if the schema refuses the values, or if
    the compute cannot be divided into rungs and checkpoints; `source` names the settings there, else the study does.
    """
    source = source or definition.name
    given = {**definition.params, **settings}
    changed = changed_params(base, any_pace(base, given), source)
    compute, grpo = definition.compute, changed.grpo
    a_rollout = grpo.prompts_per_step * grpo.group_size
    parts = compute.rungs * compute.checkpoints_per_rung
    if compute.selections % (a_rollout * parts):
        raise UserError(
            f"{source}: compute.selections must be a multiple of prompts_per_step x group_size x rungs x "
            f"checkpoints_per_rung, so that all trials get the same, but got {compute.selections} and "
            f"{grpo.prompts_per_step} x {grpo.group_size} x {compute.rungs} x {compute.checkpoints_per_rung} = "
            f"{a_rollout * parts}"
        )
    steps = compute.selections // a_rollout * grpo.num_iterations
    derived: dict[str, Any] = {
        "grpo.steps": steps,
        "grpo.evaluate_every": steps // compute.rungs,
        "grpo.checkpoint_every": steps // parts,
        "grpo.seeds": definition.seeds,
    }
    return changed_params(changed, derived, source)


def check_space(definition: Definition, base: Params) -> None:
    """Raise UserError if a trial may get a value that params.yaml's schema refuses, or a key that is not searchable.

    Every arm is tried as a whole, and no two may be the same. Of a space, tried are every choice and both ends of
    every range, one key at a time, and all combinations of what decides how the compute is divided.
    """
    for key in own_keys(definition):
        if key in DERIVED:
            raise UserError(f"{definition.name}: {key} follows from {DERIVED[key]} and cannot be set; remove it")
    if definition.arms:
        _check_arms(definition, base)
    else:
        _check_dimensions(definition, base)


def own_keys(definition: Definition) -> list[str]:
    """The keys of params.yaml that a study sets in any of its trials, each once."""
    keys = [*definition.space, *definition.params, *itertools.chain.from_iterable(definition.arms.values())]
    return list(dict.fromkeys(keys))


def _check_arms(definition: Definition, base: Params) -> None:
    seen: dict[str, Params] = {}
    for name, arm in definition.arms.items():
        params = trial_params(definition, base, arm, f"{definition.name}: arms.{name}")
        twin = next((other for other, found in seen.items() if found == params), None)
        if twin is not None:
            raise UserError(f"{definition.name}: the arms {twin} and {name} have the same settings; remove one of them")
        seen[name] = params


def _check_dimensions(definition: Definition, base: Params) -> None:
    for key in set(definition.space) & set(definition.params):
        raise UserError(f"{definition.name}: {key} must be in space or in params, but got it in both")
    for key, dimension in definition.space.items():
        for other, values in dimension.when.items():
            _check_condition(definition, key, other, values)
    in_order(definition.space)
    shape = [key for key in GROUP_SHAPE if key in definition.space]
    ranges = [key for key in shape if definition.space[key].choices is None]
    if ranges:
        raise UserError(
            f"{definition.name}: {ranges[0]} decides how the compute is divided and needs choices, but got a range"
        )
    for point in itertools.product(*(definition.space[key].extremes for key in shape)):
        trial_params(definition, base, dict(zip(shape, point)))
    for key, dimension in definition.space.items():
        for value in dimension.extremes:
            trial_params(definition, base, {key: value})


def _check_condition(definition: Definition, key: str, other: str, values: list[Value]) -> None:
    if other not in definition.space:
        raise UserError(
            f"{definition.name}: space.{key}.when names {other}, which is not searched; remove the condition"
        )
    choices = definition.space[other].choices
    missing = [value for value in values if choices is None or value not in choices]
    if missing:
        raise UserError(
            f"{definition.name}: space.{key}.when.{other} must hold choices of {other} ({choices}), but got {missing}"
        )
