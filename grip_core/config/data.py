"""Which benchmarks there are, and how much of each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from grip_core.config.section import Count, Section, Seed, Several


class PerSplit(Section):
    """One count for each split."""

    train: Count
    validation: Count
    test: Count


BuiltName = Literal["easy_vqa", "sort_of_clevr", "digit_grids"]
PublicName = Literal["pope", "scienceqa", "ai2d", "mme", "ocrbench", "textvqa"]
BenchmarkName = Literal[BuiltName, PublicName]


class InstructConfig(Section):
    """Training data in the format of LLaVA's instructions."""

    json_file: str
    images: str
    """The folder that the images' names are relative to."""


class DataConfig(Section):
    """The benchmarks that `prepare` builds or reads."""

    benchmarks: Annotated[list[BenchmarkName], *Several]
    sources: dict[PublicName, str]
    """Where a public benchmark is read from, if not from its place on the Hub: a folder, or another hub id."""
    instruct: InstructConfig | None
    """What is trained and validated on, if not the benchmarks' own splits."""
    images: PerSplit
    questions_per_image: PerSplit
    max_bad: Annotated[int, Field(ge=0)]
    """Samples of a split that may be unusable, and are left out."""
    seed: Seed

    @property
    def trained_on(self) -> list[str]:
        """What has the splits `train` and `validation`."""
        return list(self.benchmarks) if self.instruct is None else ["instruct"]

    @model_validator(mode="after")
    def _sources_are_used(self):
        for name in self.sources:
            if name not in self.benchmarks:
                raise ValueError(f"sources must be of benchmarks {self.benchmarks}, but got {name}")
        return self
