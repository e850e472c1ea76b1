"""The schema of params.yaml: one class a section, unknown keys refused, ranges checked.

A file has the sections of one part of the pipeline; here they are put together. Everything that reads a setting reads
it through `load`; nothing has a default of its own.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from grip_core.config.collapse import CollapseConfig
from grip_core.config.data import BenchmarkName, DataConfig, PerSplit, PublicName
from grip_core.config.grpo import GrpoConfig, LossType
from grip_core.config.items import FilterConfig
from grip_core.config.policy import BudgetConfig, ScorerConfig
from grip_core.config.read import parse, read_yaml
from grip_core.config.results import EvaluateConfig, ReportConfig, TimingConfig
from grip_core.config.reward import RewardConfig
from grip_core.config.section import Count, NonNegative, Rate, Section, Seed, Several, Share
from grip_core.config.supervised import SupervisedConfig
from grip_core.config.vlm import EMBEDDED_N, Device, FeaturesConfig, Phase, PretrainConfig, VlmConfig
from grip_core.config.warmup import WarmupConfig
from grip_core.errors import UserError

__all__ = [
    "EMBEDDED_N",
    "BenchmarkName",
    "BudgetConfig",
    "CollapseConfig",
    "Count",
    "DataConfig",
    "Device",
    "EvaluateConfig",
    "FeaturesConfig",
    "FilterConfig",
    "GrpoConfig",
    "LossType",
    "NonNegative",
    "Params",
    "PerSplit",
    "Phase",
    "PretrainConfig",
    "PublicName",
    "Rate",
    "ReportConfig",
    "RewardConfig",
    "ScorerConfig",
    "Section",
    "Seed",
    "Several",
    "Share",
    "SupervisedConfig",
    "TimingConfig",
    "VlmConfig",
    "WarmupConfig",
    "check_budgets",
    "load",
    "parse",
    "read_yaml",
]


class Params(Section):
    """All of params.yaml."""

    data: DataConfig
    vlm: VlmConfig
    pretrain: PretrainConfig
    features: FeaturesConfig
    scorer: ScorerConfig
    budgets: BudgetConfig
    warmup: WarmupConfig
    grpo: GrpoConfig
    supervised: SupervisedConfig
    evaluate: EvaluateConfig
    timing: TimingConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _no_more_than_there_is(self):
        for name in ("train", "validation", "test"):
            used, made = getattr(self.features.images, name), getattr(self.data.images, name)
            if used > made:
                raise ValueError(f"features.images.{name} must be at most data.images.{name}={made}, but got {used}")
            asked = getattr(self.data.questions_per_image, name)
            if self.features.questions_per_image > asked:
                raise ValueError(
                    f"features.questions_per_image must be at most data.questions_per_image.{name}={asked}, but got "
                    f"{self.features.questions_per_image}"
                )
        held_out = self.features.images.validation * self.features.questions_per_image
        if self.grpo.validation_questions > held_out:
            raise ValueError(
                f"grpo.validation_questions must be at most the {held_out} validation questions a benchmark has in "
                f"features, but got {self.grpo.validation_questions}"
            )
        return self

    @model_validator(mode="after")
    def _example_is_evaluated(self):
        if self.report.example_budget not in self.evaluate.budgets:
            raise ValueError(
                f"report.example_budget must be one of evaluate.budgets {self.evaluate.budgets}, but got "
                f"{self.report.example_budget}"
            )
        return self


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a params file. Raises UserError, one line a mistake, on anything the schema refuses."""
    return parse(Params, read_yaml(path), str(path))


def check_budgets(params: Params, n_visual: int) -> None:
    """Raise UserError if any budget is larger than the number of visual tokens."""
    budgets = {
        "budgets.high": params.budgets.high,
        **{f"evaluate.budgets[{i}]": k for i, k in enumerate(params.evaluate.budgets)},
    }
    for key, k in budgets.items():
        if k > n_visual:
            raise UserError(
                f"params.yaml: {key} must be at most the number of visual tokens ({n_visual}), but got {k}; lower it"
            )
