"""The schema of params.yaml: one class a section, unknown keys refused, ranges checked.

Everything that reads a setting reads it through `load`; nothing has a default of its own.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from grip_core.errors import UserError

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0)]


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError(f"no value may come twice, but got {values}")
    return values


Several = (Field(min_length=1), AfterValidator(_distinct))
"""A list of at least one value, none twice: a seed that is run twice would count as two pieces of evidence."""

EMBEDDED_N = 144  # visual tokens of the embedded VLM


class Section(BaseModel):
    """A section of params.yaml: complete, immutable, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


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


class VlmConfig(Section):
    """Which frozen VLM prunes: a folder or a hub id of a supported family."""

    path: str
    positions: Literal["original", "compact"]


class Phase(Section):
    """A phase of the embedded VLM's training.

    "vision": the tower, on its auxiliary targets alone. "captions": short prompts about single objects; the tower
    stands still. "easy": the questions about one object; the tower stands still. "relations": short prompts that
    combine objects.
    "all": every question. From "relations" on everything trains.
    """

    name: Literal["vision", "captions", "easy", "relations", "all"]
    steps: Count


class PretrainConfig(Section):
    """Training of the embedded VLM."""

    width: Annotated[int, Field(ge=16, multiple_of=16)]
    vision_layers: Count
    text_layers: Count
    phases: Annotated[list[Phase], Field(min_length=1)]
    """In their order; the first must be "vision"."""
    images_per_step: Count
    questions_per_image: Count
    learning_rate: Rate
    auxiliary_weight: NonNegative
    weight_decay: NonNegative
    seed: Seed

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @model_validator(mode="after")
    def _vision_first(self):
        if self.phases[0].name != "vision":
            raise ValueError(f"phases must begin with vision, but got {self.phases[0].name}")
        return self


class FeaturesConfig(Section):
    """How much of every benchmark and split enters the feature cache: the first images, the first questions of each."""

    images: PerSplit
    questions_per_image: Count
    batch_size: Count

    @model_validator(mode="after")
    def _several_test_images(self):
        if self.images.test < 2:
            raise ValueError(f"images.test must be at least 2, which an interval needs, but got {self.images.test}")
        return self


class ScorerConfig(Section):
    """The scorer's shape."""

    width: Annotated[int, Field(ge=8, multiple_of=8)]
    layers: Count
    heads: Count

    @model_validator(mode="after")
    def _heads_divide_width(self):
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, but got heads={self.heads} and width={self.width}")
        return self


class BudgetConfig(Section):
    """Budgets k of training: drawn per prompt between low and high, both included."""

    schedule: Literal["uniform", "log_uniform"]
    low: Count
    high: Count

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low must be at most high, but got low={self.low} and high={self.high}")
        return self


class FilterConfig(Section):
    """Which training items are left out because they carry no signal."""

    answered_without_image: bool
    """Drop items the model already answers without the image."""
    failed_with_all_tokens: bool
    """Drop items the model gets wrong with every token kept."""


class WarmupConfig(Section):
    """The supervised warm-up; its checkpoint is the reference policy and the control arm."""

    teacher: Literal["attention", "gradient", "leave_group_out"]
    sharpness: Annotated[float, Field(gt=0.0)]
    """Exponent on the teacher's distribution: attention is nearly flat over many tokens."""
    steps: Count
    prompts_per_step: Count
    learning_rate: Rate
    seed: Seed


class GrpoConfig(Section):
    """Training by GRPO."""

    seeds: Annotated[list[Seed], *Several]
    steps: Count
    """Optimizer steps; every rollout serves `num_iterations` of them."""
    prompts_per_step: Count
    group_size: Annotated[int, Field(ge=2)]
    num_iterations: Count
    """mu: updates per rollout."""
    learning_rate: Rate
    lr_schedule: Literal["constant", "linear", "cosine"]
    """After the warm-up of `lr_warmup_steps`."""
    lr_warmup_steps: Annotated[int, Field(ge=0)]
    beta: NonNegative
    """Weight of the KL to the warm-up reference."""
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)]
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    scale_rewards: Literal["group", "batch", "none"]
    min_std: NonNegative
    """A group whose reward std is at most this is dead: its advantages are zero."""
    reward: Literal["log_prob", "correct"]
    filter: FilterConfig
    evaluate_every: Count
    """Optimizer steps between evaluations of the mode on validation questions."""
    validation_questions: Count
    """Per benchmark."""
    checkpoint_every: Count

    @model_validator(mode="after")
    def _checkpoints_at_rollouts(self):
        for name in ("checkpoint_every", "evaluate_every", "steps"):
            value = getattr(self, name)
            if value % self.num_iterations:
                raise ValueError(
                    f"{name} must be a multiple of num_iterations={self.num_iterations}, but got {name}={value}"
                )
        return self


class EvaluateConfig(Section):
    """The grid of the final evaluation on the test split."""

    budgets: Annotated[list[Count], *Several]
    baselines: Annotated[list[str], *Several]
    random_seeds: Annotated[list[Seed], *Several]
    batch_size: Count
    headline_share: Share
    """The headline number averages the budgets of at most this share of the tokens."""


class ReportConfig(Section):
    """The HTML report."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    examples: Count
    example_budget: Count


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
    evaluate: EvaluateConfig
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


def read_yaml(path: Path) -> Any:
    """A file's content, unchecked. Raises UserError if it is not there or not YAML."""
    try:
        return yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run from the repository's root") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def parse(schema: type[AnySection], raw: Any, source: str) -> AnySection:
    """Check settings that are already read; `source` names them in messages. Raises UserError, one line a mistake."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise UserError("\n".join(_line(schema, source, item) for item in error.errors())) from None


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


def _line(schema: type[Section], source: str, item: Any) -> str:
    location, value = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        known = _known_keys(schema, location[:-1])
        close = get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        listed = f"known here: {', '.join(known)}"
        return f"{source}: {_key(location)} is not a known key, but got {value!r} for it; {hint}{listed}"
    if item["type"] == "missing":
        return f"{source}: {_key(location)} is missing; every key must be given"
    if item["type"] == "model_type":
        known = _known_keys(schema, location)
        return f"{source}: {_key(location)} must hold the keys {', '.join(known)}, but got {value!r}"
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] == "value_error":  # the schema's own rules name the values themselves
        return ": ".join([source, *([_key(location)] if location else []), message])
    return f"{source}: {_key(location)}: {message}, but got {value!r}{_hint(item['type'], value)}"


def _hint(kind: str, value: Any) -> str:
    """YAML 1.1 takes 1e-3 for text, which nobody expects."""
    if kind == "float_type" and isinstance(value, str):
        try:
            return f"; YAML takes it for text, write {float(value)!r}"
        except ValueError:
            return ""
    return ""


def _key(location: tuple[Any, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".") or "(top level)"


def _known_keys(schema: type[Section], location: tuple[Any, ...]) -> list[str]:
    section: Any = schema
    for part in location:
        # A number is a place in a list of sections.
        section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
    return sorted(section.model_fields)
