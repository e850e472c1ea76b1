"""What of a study's space or arms cannot matter; the rules are those of grip_core/rl/void.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.rl.void import Axis, Finding, by_key, settings_of, void_findings
from grip_core.rl.void_rules import RATE
from studies.comparison import Comparison
from studies.definition import Definition, Dimension
from studies.settings import IDLE, Settings, hashable, idle_keys
from studies.space import trial_params
from studies.trainable import load_trainable
from studies.training import Training


def void_settings(definition: Definition, params: Params) -> list[Finding]:
    """What is wrong with the space or the arms, refusals first; nothing for trials that are no GRPO runs, of which no
    rule speaks.

    The definition must have passed `check_space`.
    """
    trainable = load_trainable(definition.trainable)
    if not issubclass(trainable, Training):
        return []
    base = {**settings_of(params.grpo, params.budgets), **definition.params}
    if not definition.arms:
        return void_findings(base, {key: axis(dimension) for key, dimension in definition.space.items()})
    found = [item for name in definition.arms for item in _arm_findings(definition, params, base, name)]
    if issubclass(trainable, Comparison):
        found += [item for name in definition.arms for item in _idle(definition, params, name)]
    return sorted(found, key=lambda item: item.severity != "refuse")


def _arm_findings(definition: Definition, params: Params, base: Mapping[str, Any], name: str) -> list[Finding]:
    """The keys of an arm without which it would be the same run. One without which the schema refuses it has a use."""
    arm = definition.arms[name]
    fixed = {key: Axis((hashable(value),)) for key, value in arm.items()}
    if definition.ablation is not None and definition.ablation.learning_rates is not None:
        fixed |= {RATE: Axis((arm.get(RATE, base[RATE]),))}  # which is varied with what it is confounded with
    found = []
    for key, value in arm.items():
        if key not in base or base[key] == value or not _can_do_without(definition, params, arm, key):
            continue
        pair = Axis((hashable(base[key]), hashable(value)))
        for item in void_findings({**base, **arm}, fixed | {key: pair}):
            if item.key == key and (not item.values or hashable(value) in item.values):
                remedy = item.remedy if item.values else _remedy(definition)
                found.append(replace(item, key=f"{name}.{key}", values=(), where="", remedy=remedy))
    return found


def _idle(definition: Definition, params: Params, name: str) -> list[Finding]:
    """The keys of an arm that another principle of training reads."""
    arm = definition.arms[name]
    idle = idle_keys(by_key(trial_params(definition, params, arm).model_dump()), arm)
    return [Finding(f"{name}.{key}", "refuse", (), "", IDLE, _remedy(definition)) for key in idle]


def _remedy(definition: Definition) -> str:
    """A grid keeps a level whole where another of its keys matters; one at a time, none is beside another's."""
    if definition.ablation is None:
        return "remove it from the arm"
    alone = definition.ablation.design == "one_at_a_time"
    return f"take it out of that level{'' if alone else ', or take design one_at_a_time'}"


def _can_do_without(definition: Definition, params: Params, arm: Settings, key: str) -> bool:
    try:
        trial_params(definition, params, {other: value for other, value in arm.items() if other != key})
    except UserError:
        return False
    return True


def axis(dimension: Dimension) -> Axis:
    """A dimension's choices, or values inside its range: its ends, where a rule may hold, are never drawn exactly.

    Integers are drawn exactly, so of these the ends count too.
    """
    if dimension.choices is not None:
        return Axis(tuple(dimension.choices), when=dimension.when)
    low, high = dimension.low, dimension.high
    assert low is not None  # the schema's own rule
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return Axis(tuple(sorted({low, (low + high) // 2, high})), finite=False, when=dimension.when)
    inside = (low + (high - low) * part for part in (1 / 3, 2 / 3))
    return Axis(tuple(inside), finite=False, when=dimension.when)


def told(definition: Definition, finding: Finding) -> str:
    """A finding in one line."""
    return f"{definition.name}: {'arms' if definition.arms else 'space'}.{finding}"


def refusals(definition: Definition, findings: list[Finding]) -> str:
    """What of the findings forbids a launch, a line each."""
    return "\n".join(told(definition, item) for item in findings if item.severity == "refuse")
