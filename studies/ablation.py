"""Ablations: factors and their levels, which become the arms of a study when its definition is loaded.

The baseline is params.yaml with the study's own `params`. Every factor has a level that leaves it as it is there; the
arm of these levels is called `baseline`, the others by the levels in which they differ: "group_size=8, beta=0.1".

    ablation:
      factors:
        grpo.group_size: [8, 32]        # values of a key of params.yaml
        clip:                           # or labels of sets of settings
          tight: {grpo.epsilon: 0.1, grpo.epsilon_high: 0.1}
      design: grid

Designs:

grid            all combinations of levels. Where a factor cannot matter under the others' levels (the clip range with
                one update a rollout, GRPO's settings with a supervised method), it is left at its baseline, so that
                what would be one run is one arm.
one_at_a_time   the baseline, and every other level by itself.
fractional      of three or more factors with q levels each, the 1/q of the grid in which the levels' numbers, the
                baseline's being 0, sum to a multiple of q. Of any factors but one it has each combination of levels
                once. It is an orthogonal array: main effects are estimated independently of each other, though each
                is mixed with the interaction of all other factors. With q = 2 it is the half fraction in which an even
                number of factors is off its baseline (Box and Hunter 1961, Technometrics 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from grip_core.config import Params, Rate, Section, Several, parse
from grip_core.errors import UserError
from grip_core.rl.void import Axis, Finding, by_key, void_findings
from grip_core.rl.void_rules import RATE
from studies.settings import (
    IDLE,
    Settings,
    Value,
    any_pace,
    changed_params,
    hashable,
    idle_keys,
    rescaled,
)

BASELINE = "baseline"
AT_RATE = " @ lr="
"""Between an arm's name and the learning rate that it is run at beside its own."""
Design = Literal["grid", "one_at_a_time", "fractional"]
Values = Annotated[Annotated[list[Value], *Several], Tag("values")]
Labelled = Annotated[dict[str, Settings], Tag("labels")]


def _kind(levels: Any) -> str | None:
    return "values" if isinstance(levels, list) else "labels" if isinstance(levels, dict) else None


class AblationConfig(Section):
    """What is varied, and in which combinations."""

    factors: Annotated[
        dict[
            str,
            Annotated[
                Values | Labelled,
                Discriminator(
                    _kind,
                    custom_error_type="levels",
                    custom_error_message="a factor must be a list of values, or labels with the settings of each",
                ),
            ],
        ],
        Field(min_length=1),
    ]
    """By the key of params.yaml whose values are listed, or by a name of their own."""
    design: Design
    learning_rates: Annotated[list[Rate], *Several] | None = None
    """At which the baseline, and the arms whose gradient has another scale, are run too; see `rescaled`."""


@dataclass(frozen=True)
class Arm:
    """One combination of levels."""

    name: str
    settings: Settings
    """What differs from the baseline."""
    levels: dict[str, str]
    """Label of every factor's level."""
    rate: float | None = None
    """The learning rate, where it is one of `learning_rates` and not the arm's own."""


@dataclass(frozen=True)
class Plan:
    """An ablation as it is run."""

    factors: dict[str, list[str]]
    """Labels of every factor's levels, in the order of the definition."""
    arms: list[Arm]
    """The baseline first."""


def with_arms(raw: dict[str, Any], params: Params, source: str) -> dict[str, Any]:
    """A definition as it was read, with the arms of its ablation; one that has no ablation as it is.

    Raises UserError for a mistake in the ablation, or if there is a space, or if there are other arms than the
    ablation's: those that a study's own record has are taken.
    """
    if not isinstance(raw, dict) or raw.get("ablation") is None:
        return raw
    if raw.get("space"):
        raise UserError(f"{source}: exactly one of space, arms and ablation must be given, but got space and ablation")
    config = parse(AblationConfig, raw["ablation"], f"{source}: ablation")
    own = raw.get("params")
    arms = {arm.name: arm.settings for arm in plan(config, own if isinstance(own, dict) else {}, params, source).arms}
    if raw.get("arms") and raw["arms"] != arms:
        raise UserError(f"{source}: arms follow from ablation and params.yaml, but got others; remove arms")
    return {**raw, "arms": arms}


def plan(config: AblationConfig, own: Mapping[str, Any], params: Params, source: str) -> Plan:
    """The arms of an ablation of params.yaml's `params`, of which `own` differ in all arms.

    Raises UserError, with `source` before it, if the schema refuses `own` or a level by itself, if two levels or two
    factors are in each other's way, if the factors do not fit the design, or if a level makes no difference anywhere in
    a grid.
    """
    changed_params(params, any_pace(params, own), f"{source}: params")
    base = {**by_key(params.model_dump()), **own}
    try:
        factors = {name: _levels(name, levels, base) for name, levels in config.factors.items()}
        _check_apart(factors)
        _check_values(factors, own, params)
        points = list(_points(config.design, factors))
        if config.design == "grid":
            points = _collapsed(points, factors, base)
        points.sort(key=lambda point: point != _baseline(factors))  # stable: first the baseline, then as they came
        arms = [Arm(_name(point, factors), _settings(point, factors), point) for point in points]
        if config.learning_rates is not None:
            arms = _at_rates(arms, config.learning_rates, factors, base)
    except UserError as error:
        raise UserError("\n".join(f"{source}: ablation: {line}" for line in str(error).splitlines())) from None
    return Plan({name: list(levels) for name, levels in factors.items()}, arms)


# Levels ---------------------------------------------------------------------------------------------------------------

Levels = dict[str, Settings]
"""What differs from the baseline, by label; the baseline's own level is empty."""
Point = dict[str, str]
"""A label for every factor."""
REMOVE = "remove the level"


def _levels(name: str, given: list[Value] | dict[str, Settings], base: Mapping[str, Any]) -> Levels:
    if isinstance(given, list) and name not in base:
        raise UserError(
            f"factors.{name} lists values, so it must be a key of params.yaml; take such a key, or give labels with "
            "settings"
        )
    asked = given if isinstance(given, dict) else {_text(value): Settings({name: value}) for value in given}
    levels = {
        label: {key: value for key, value in settings.items() if key not in base or base[key] != value}
        for label, settings in asked.items()
    }
    for (one, settings), (other, others) in itertools.combinations(levels.items(), 2):
        if settings == others:
            raise UserError(f"factors.{name}: the levels {one} and {other} have the same settings; remove one of them")
    if {} not in levels.values():
        label = _text(base[name]) if isinstance(given, list) else BASELINE
        if label in levels:
            raise UserError(f"factors.{name}: the level {label} must change nothing, but sets {levels[label]}")
        levels = {label: {}, **levels}
    if len(levels) < 2:
        raise UserError(f"factors.{name} must have a level that differs from params.yaml, but has {list(levels)} alone")
    return levels


def _text(value: Value) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_apart(factors: Mapping[str, Levels]) -> None:
    keys = {name: {key for settings in levels.values() for key in settings} for name, levels in factors.items()}
    for one, other in itertools.combinations(keys, 2):
        if shared := sorted(keys[one] & keys[other]):
            raise UserError(f"the factors {one} and {other} both set {shared[0]}; let one of them set it")


def _check_values(factors: Mapping[str, Levels], own: Mapping[str, Any], params: Params) -> None:
    """The rules of what is void compute with values: only with those that the schema takes."""
    for name, levels in factors.items():
        for label, settings in levels.items():
            changed_params(params, any_pace(params, {**own, **settings}), f"factors.{name}: the level {label}")


def _baseline(factors: Mapping[str, Levels]) -> Point:
    return {name: next(label for label, new in levels.items() if not new) for name, levels in factors.items()}


def _settings(point: Point, factors: Mapping[str, Levels]) -> Settings:
    return {key: value for name, label in point.items() for key, value in factors[name][label].items()}


def _name(point: Point, factors: Mapping[str, Levels]) -> str:
    short = {name: name.split(".")[-1] for name in factors}
    if len(set(short.values())) < len(short):
        short = {name: name for name in factors}
    parts = [f"{short[name]}={label}" for name, label in point.items() if factors[name][label]]
    return ", ".join(parts) or BASELINE


# Designs --------------------------------------------------------------------------------------------------------------


def _points(design: Design, factors: Mapping[str, Levels]) -> Iterator[Point]:
    """The design's combinations of levels."""
    base = _baseline(factors)
    if design == "one_at_a_time":
        others = ((name, label) for name, levels in factors.items() for label, new in levels.items() if new)
        yield from (base, *({**base, name: label} for name, label in others))
        return
    # The baseline is number 0, the others are numbered as they come.
    numbered = [[base[name], *(label for label, new in levels.items() if new)] for name, levels in factors.items()]
    sizes = {len(labels) for labels in numbered}
    if design == "fractional" and (len(factors) < 3 or len(sizes) > 1):
        counts = ", ".join(f"{name} with {len(levels)}" for name, levels in factors.items())
        raise UserError(
            f"design fractional needs three or more factors with as many levels each, their baselines included, but "
            f"got {counts}; take grid"
        )
    for numbers in itertools.product(*(range(len(labels)) for labels in numbered)):
        if design == "grid" or sum(numbers) % min(sizes) == 0:
            yield {name: labels[number] for name, labels, number in zip(factors, numbered, numbers, strict=True)}


def _collapsed(points: list[Point], factors: Mapping[str, Levels], base: Mapping[str, Any]) -> list[Point]:
    """The points with the factors that cannot matter at their baselines, each once."""
    kept: list[Point] = []
    reasons: dict[tuple[str, str], Finding] = {}
    for point in points:
        found, why = _live(point, factors, base)
        reasons |= why
        if found not in kept:
            kept.append(found)
    for (name, label), finding in reasons.items():
        if not any(point[name] == label for point in kept):
            raise UserError(
                f"factors.{name}: the level {label} makes no difference in any arm: {replace(finding, remedy=REMOVE)}"
            )
    return kept


def _live(
    point: Point, factors: Mapping[str, Levels], base: Mapping[str, Any]
) -> tuple[Point, dict[tuple[str, str], Finding]]:
    """The point with those factors at their baselines that cannot matter given the rest, and why not.

    Keys are taken away one after the other, so that each is judged beside what is left.
    """
    start, reasons = _baseline(factors), {}
    for name, label in point.items():
        left, found = _settings(point, factors), None
        for key in factors[name][label]:
            finding = _void(key, left, base)
            if finding is None:
                break
            found = finding
            del left[key]
        else:
            if found is not None:
                point, reasons[name, label] = {**point, name: start[name]}, found
    return point, reasons


def _void(key: str, settings: Settings, base: Mapping[str, Any]) -> Finding | None:
    """Why a key of these settings changes nothing of the run; None if it does."""
    whole = {**base, **settings}
    if idle_keys(whole, [key]):
        return Finding(key, "refuse", (), "", IDLE, REMOVE)
    findings = void_findings(whole, {key: Axis((hashable(base[key]), hashable(settings[key])))})
    return next((item for item in findings if item.severity == "refuse"), None)


# Learning rates -------------------------------------------------------------------------------------------------------


def _at_rates(arms: list[Arm], rates: list[float], factors: Mapping[str, Levels], base: Mapping[str, Any]) -> list[Arm]:
    """The arms, and after each whose gradient has another scale, and after the baseline, itself at those rates."""
    if setting := [name for name, levels in factors.items() if any(RATE in new for new in levels.values())]:
        raise UserError(
            f"learning_rates go with factors that do not set {RATE}, but {setting[0]} does; remove one of the two"
        )
    scaled = {arm.name for arm in arms if rescaled(arm.settings, base)}
    if not scaled:
        raise UserError("learning_rates are for arms whose gradient has another scale, and there are none; remove them")
    found = []
    for arm in arms:
        own = arm.settings.get(RATE, base[RATE])
        again = [rate for rate in rates if rate != own] if arm.name in scaled | {BASELINE} else []
        matched = [
            Arm(f"{arm.name}{AT_RATE}{rate:g}", {**arm.settings, RATE: rate}, arm.levels, rate) for rate in again
        ]
        found += [arm, *matched]
    return found
