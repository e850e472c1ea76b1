"""Finds what a search or an ablation must not vary, or not unknowingly: settings that cannot matter.

Arms that differ in such a setting are one run, and what is read into their difference is nothing. Most settings are
void under a condition only, as `grpo.epsilon` while a rollout serves one update; so every rule of void_rules.py is
asked in all combinations of the searched keys that it reads. What is void in all of them is refused, what is void in
some is warned of, and so is an arm that changes something else than its name says.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from grip_core.config import BudgetConfig, GrpoConfig
from grip_core.rl.void_rules import RULES, TRAPS, Rule, Settings, Value

Context = frozenset[tuple[str, Value]]
"""The values of other searched keys: one of their combinations."""


@dataclass(frozen=True)
class Axis:
    """The values of a searched key. With `when` it is searched only where other keys have one of the given values, and
    elsewhere keeps the value that it has without a search."""

    values: tuple[Value, ...]
    finite: bool = True
    """Whether these are all; else they stand for a range."""
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict)


Space = Mapping[str, Axis]


@dataclass(frozen=True)
class Finding:
    """A searched key that makes no difference, or another one than it seems to."""

    key: str
    severity: Literal["refuse", "warn"]
    values: tuple[Value, ...]
    """Those that are meant; empty if the key as a whole is."""
    where: str
    """The combinations that are meant, in words; empty if all are."""
    reason: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        subject = f"{self.key} = {' or '.join(map(str, self.values))}" if self.values else self.key
        return f"{' '.join(filter(None, (subject, self.where, self.reason)))}; {self.remedy}"


def settings_of(grpo: GrpoConfig, budgets: BudgetConfig) -> Settings:
    """Values by their key in params.yaml, as "grpo.reward.correct"."""
    return by_key({"grpo": grpo.model_dump(), "budgets": budgets.model_dump()})


def by_key(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of sections within sections, by their names joined with dots."""
    values: dict[str, Any] = {}
    for name, value in sections.items():
        values |= by_key(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return values


def void_findings(base: Settings, space: Space) -> list[Finding]:
    """What is wrong with searching `space` from `base`, refusals first.

    `base` has all settings, as `settings_of` gives them. What a `when` names must be in `space`, and not in a circle.
    """
    found = [finding for key in space for finding in (*_twins(key, base, space), *_trapped(key, base, space))]
    return sorted(found, key=lambda finding: finding.severity != "refuse")


@dataclass(frozen=True)
class _Likeness:
    """In what a pair of values is one run: pairs with the same are told of together."""

    images: frozenset[tuple[Context, Rule, Hashable]]
    """By which rule in which combination, and to which image."""
    exact: bool
    always: bool
    """In all combinations in which both values come up."""


def _twins(key: str, base: Settings, space: Space) -> list[Finding]:
    """Values that are one run."""
    rules = sorted((rule for rule in RULES if key in rule.keys), key=lambda rule: not rule.exact)
    contexts = _contexts(key, {other for rule in rules for other in rule.reads}, space)
    alike: dict[_Likeness, set[Value]] = {}
    for pair in itertools.combinations(space[key].values, 2):
        shared = [context for context, values in contexts.items() if set(pair) <= set(values)]
        images = [
            (context, *image)
            for context in shared
            if (image := _common_image(rules, {**base, **dict(context)}, pair)) is not None
        ]
        for exact in (True, False):
            found = frozenset(item for item in images if item[1].exact is exact)
            if found:
                alike.setdefault(_Likeness(found, exact, len(found) == len(shared)), set()).update(pair)
    return [_twin_finding(key, space, set(contexts), likeness, values) for likeness, values in alike.items()]


def _common_image(rules: Iterable[Rule], settings: Settings, pair: tuple[Value, Value]) -> tuple[Rule, Hashable] | None:
    """The first rule by which both values are one run, and their image."""
    for rule in rules:
        first, second = (rule.image(settings, value) for value in pair)
        if first is not None and first == second:
            return rule, first
    return None


def _twin_finding(key: str, space: Space, contexts: set[Context], likeness: _Likeness, values: set[Value]) -> Finding:
    refused = likeness.exact and likeness.always
    whole = len(values) == len(space[key].values)
    where, condition = _place(key, space, contexts, {context for context, _, _ in likeness.images})
    if refused:
        remedy = "remove it from the space" if whole else "keep one of them"
    else:
        remedy = (whole and condition) or ("their trials are repetitions" if likeness.exact else "expect no more of it")
    reasons = sorted({rule.reason for _, rule, _ in likeness.images})
    return Finding(
        key,
        "refuse" if refused else "warn",
        () if whole else tuple(value for value in space[key].values if value in values),
        where,
        f"makes {'no difference' if likeness.exact else 'hardly a difference'}: {'; or '.join(reasons)}",
        remedy,
    )


def _trapped(key: str, base: Settings, space: Space) -> list[Finding]:
    """Values that change something else than their name says."""
    findings = []
    for trap in TRAPS:
        if trap.key != key or trap.without_key in space or not (trap.with_key is None or trap.with_key in space):
            continue
        contexts = _contexts(key, trap.reads, space)
        caught = [
            (context, value)
            for context, values in contexts.items()
            for value in values
            if trap.caught({**base, **dict(context)}, value)
        ]
        if caught:
            values = tuple(value for value in space[key].values if value in {value for _, value in caught})
            where, _ = _place(key, space, set(contexts), {context for context, _ in caught})
            findings.append(Finding(key, "warn", values, where, trap.reason, trap.remedy))
    return findings


def _contexts(key: str, reads: Collection[str], space: Space) -> dict[Context, list[Value]]:
    """The combinations in which `key` is searched, and its values in each: of the searched keys among `reads`, and of
    those that decide whether these are searched."""
    names: set[str] = set()
    new = {key} | (set(reads) & set(space))
    while new:
        names |= new
        new = {other for name in new for other in space[name].when} - names
    order = sorted(names)
    found: dict[Context, list[Value]] = {}
    for point in itertools.product(*(space[name].values for name in order)):
        chosen = dict(zip(order, point, strict=True))
        searched = {name: value for name, value in chosen.items() if _searched(name, chosen, space)}
        if key in searched:
            value = searched.pop(key)
            values = found.setdefault(frozenset(searched.items()), [])
            if value not in values:
                values.append(value)
    return found


def _searched(key: str, chosen: Mapping[str, Value], space: Space) -> bool:
    """Whether the key's conditions hold, and those of the keys in them."""
    return all(chosen[other] in values and _searched(other, chosen, space) for other, values in space[key].when.items())


def _place(key: str, space: Space, contexts: set[Context], void: set[Context]) -> tuple[str, str]:
    """In words, where `void` is among all contexts, and the `when` that leaves it out; empty where there is none."""
    if void == contexts:
        return "", ""
    names = sorted({name for context in contexts for name, _ in context})
    live = {name: {dict(context).get(name) for context in contexts - void} for name in names}
    # A value that comes up in void combinations only.
    gone = {name: [v for v in space[name].values if v not in live[name]] for name in names}
    gone = {name: values for name, values in gone.items() if any((name, v) in c for v in values for c in void)}
    if not all(any(value in gone.get(name, []) for name, value in context) for context in void):
        return f"in {len(void)} of {len(contexts)} combinations of {' and '.join(names)}", ""
    where = " or ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in gone.items())
    kept = {name: [v for v in space[name].values if v in live[name]] for name in gone}
    when = ", ".join(f"{name}: [{', '.join(map(str, v))}]" for name, v in {**space[key].when, **kept}.items())
    # A condition on a key that is not always searched would leave out more, and one on a range cannot be written.
    possible = all(space[name].finite and None not in live[name] for name in kept)
    return f"where {where}", f"search it only `when: {{{when}}}`" if possible else ""
