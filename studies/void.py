"""What of a study's space cannot matter; the rules are those of grip_core/rl/void.py."""

from __future__ import annotations

from grip_core.config import Params
from grip_core.rl.void import Axis, Finding, settings_of, void_findings
from studies.definition import Definition, Dimension
from studies.trainable import load_trainable
from studies.training import Training


def void_settings(definition: Definition, params: Params) -> list[Finding]:
    """What is wrong with the space, refusals first; nothing for trials that are no GRPO runs, of which no rule speaks.

    The space must have passed `check_space`.
    """
    if not issubclass(load_trainable(definition.trainable), Training):
        return []
    base = {**settings_of(params.grpo, params.budgets), **definition.params}
    return void_findings(base, {key: axis(dimension) for key, dimension in definition.space.items()})


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


def refusals(definition: Definition, findings: list[Finding]) -> str:
    """What of the findings forbids a launch, a line each."""
    return "\n".join(f"{definition.name}: space.{item}" for item in findings if item.severity == "refuse")
