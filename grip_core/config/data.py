"""Which benchmarks there are, and how much of each."""

from __future__ import annotations

from typing import Annotated, Literal

from grip_core.config.section import Count, Section, Seed, Several


class PerSplit(Section):
    """One count for each split."""

    train: Count
    validation: Count
    test: Count


BenchmarkName = Literal["easy_vqa", "sort_of_clevr", "digit_grids"]


class DataConfig(Section):
    """The benchmarks that `prepare` builds."""

    benchmarks: Annotated[list[BenchmarkName], *Several]
    images: PerSplit
    questions_per_image: PerSplit
    seed: Seed
