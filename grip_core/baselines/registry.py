"""The baselines by name. They are found, not listed: every module of this package is imported."""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from grip_core import baselines
from grip_core.baselines.base import Baseline
from grip_core.errors import UserError
from grip_core.vlm.frozen import FrozenVLM


@cache
def known() -> dict[str, type[Baseline]]:
    """Every baseline class of this package by its name, in the order of the names."""
    modules = [import_module(f"{baselines.__name__}.{module.name}") for module in iter_modules(baselines.__path__)]
    classes = {member for module in modules for _, member in inspect.getmembers(module, inspect.isclass)}
    concrete = [item for item in classes if issubclass(item, Baseline) and not inspect.isabstract(item)]
    return {item.name: item for item in sorted(concrete, key=lambda item: item.name)}


def get(name: str) -> type[Baseline]:
    """The class called `name`. Raises UserError, with the names there are, if there is none."""
    if name not in known():
        raise UserError(f"{name} is not a known baseline; known are: {', '.join(known())}")
    return known()[name]


def create(name: str, vlm: FrozenVLM, seed: int) -> Baseline:
    """The baseline called `name`, ready to select. Raises UserError as `get`."""
    return get(name)(vlm, seed)
