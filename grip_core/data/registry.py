"""The benchmarks by name. A new one is a module with NAME, `build` and `render`, and a line here."""

from __future__ import annotations

from types import ModuleType

from grip_core.data import digit_grids, easy_vqa, sort_of_clevr

BENCHMARKS: dict[str, ModuleType] = {module.NAME: module for module in (easy_vqa, sort_of_clevr, digit_grids)}
