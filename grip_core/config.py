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
    dtype: Literal["float32", "bfloat16"]
    """What the VLM computes in. bfloat16 is faster only where the hardware has it; the scorer stays in float32."""


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
    """Budgets k of training, between low and high, both included; grip_core/policy/budgets.py says what each does.

    A schedule reads `low` and `high` and the keys that name it; it leaves the others alone.
    """

    schedule: Literal["constant", "uniform", "log_uniform", "linear", "cosine", "staged", "mixture", "adaptive"]
    low: Count
    high: Count
    constant: Count
    """constant: the one budget."""
    direction: Literal["high_to_low", "low_to_high"]
    """linear, cosine, staged: which end of the range comes first."""
    stages: Count
    """staged: equal parts of the run, each of which opens one more part of the range."""
    values: Annotated[list[Count], *Several]
    """mixture: the budgets."""
    weights: Annotated[list[NonNegative], Field(min_length=1)]
    """mixture: how often each comes, relative to the others."""
    bins: Count
    """adaptive: parts of the range, equal in log k, that are told apart."""
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)]
    """adaptive: share of the past in each part's running mean of the reward's std."""
    exploration: Share
    """adaptive: share of the prompts that are drawn log-uniformly, whatever the signal."""

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low must be at most high, but got low={self.low} and high={self.high}")
        return self

    @model_validator(mode="after")
    def _own_budgets_lie_between(self):
        own = {"constant": [self.constant], "mixture": self.values}.get(self.schedule, [])
        outside = [k for k in own if not self.low <= k <= self.high]
        if outside:
            key = {"constant": "constant", "mixture": "values"}[self.schedule]
            raise ValueError(f"{key} must lie between low={self.low} and high={self.high}, but got {outside[0]}")
        return self

    @model_validator(mode="after")
    def _a_weight_a_value(self):
        if len(self.weights) != len(self.values) or not sum(self.weights) > 0:
            raise ValueError(
                f"weights must be one for each of the {len(self.values)} values and not all 0, but got {self.weights}"
            )
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


class RewardConfig(Section):
    """The reward of a selection: a weighted sum of grip_core/rl/rewards.py's, then clipped."""

    log_prob: NonNegative
    """Mean log-probability of the gold answer, nats."""
    correct: NonNegative
    """1 where the greedy answer is the gold answer."""
    fidelity: NonNegative
    """-KL(full || pruned) of the answer's tokens, nats: the model with every token kept is the teacher."""
    gain: NonNegative
    """log_prob minus what the model gives without the image, nats."""
    clip_low: float
    clip_high: float
    """The sum is kept between these two."""

    @property
    def weights(self) -> dict[str, float]:
        """The rewards that count, by name."""
        named = {name: getattr(self, name) for name in ("log_prob", "correct", "fidelity", "gain")}
        return {name: weight for name, weight in named.items() if weight > 0}

    @model_validator(mode="after")
    def _some_reward(self):
        if not self.weights:
            raise ValueError("at least one of log_prob, correct, fidelity and gain must be above 0, but all are 0")
        if not self.clip_low < self.clip_high:
            raise ValueError(
                f"clip_low must be below clip_high, but got clip_low={self.clip_low} and clip_high={self.clip_high}"
            )
        return self


class CollapseConfig(Section):
    """When a run counts as collapsed; grip_core/rl/collapse.py looks for it."""

    entropy: Share
    """Entropy, as a share of a uniform policy's, below which the policy has stopped exploring."""
    kl: Annotated[float, Field(gt=0.0)]
    """KL to the warm-up per pick, nats, above which the policy has lost its anchor."""
    accuracy_drop: NonNegative
    """Validation accuracy so far below the warm-up's, ..."""
    evaluations: Count
    """... this many evaluations in a row. Entropy and KL have to hold for as many rollouts."""
    stop: bool
    """Whether a collapsed run is ended there; its metrics say so in any case."""


LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


class GrpoConfig(Section):
    """Training by GRPO."""

    seeds: Annotated[list[Seed], *Several]
    steps: Count
    """Optimizer steps; every rollout serves `num_iterations` of them."""
    prompts_per_step: Count
    group_size: Annotated[int, Field(ge=2)]
    num_iterations: Count
    """mu: updates per rollout."""
    distribution: Literal["plackett_luce", "conditional_bernoulli", "bernoulli"]
    """What selections are drawn from; grip_core/policy/distribution.py."""
    start: Literal["warmup", "untrained"]
    """The scorer that training begins with, and that the KL anchors to."""
    budget_penalty: NonNegative
    """bernoulli: reward lost per token kept beyond or below the budget, as a share of the budget."""
    learning_rate: Rate
    lr_schedule: Literal["constant", "linear", "cosine"]
    """After the warm-up of `lr_warmup_steps`."""
    lr_warmup_steps: Annotated[int, Field(ge=0)]
    beta: NonNegative
    """Weight of the KL to the warm-up reference: per pick in the loss, whose policy term is per pick too, or of the
    whole selection in the reward."""
    kl_estimator: Literal["k1", "k2", "k3", "exact"]
    kl_placement: Literal["loss", "reward"]
    entropy_coef: NonNegative
    """Weight of the bonus for entropy, nats per pick."""
    loss_type: LossType
    importance_level: Literal["token", "sequence"]
    """Whether probability ratios are taken per pick or per selection (GSPO)."""
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Ratios are clipped below at 1 - epsilon ..."""
    epsilon_high: Annotated[float, Field(gt=0.0)]
    """... and above at 1 + epsilon_high; cispo: at epsilon_high itself."""
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    baseline: Literal["mean", "leave_one_out"]
    """What is taken off a reward: its group's mean, or the mean of the others of its group (RLOO)."""
    scale_rewards: Literal["group", "batch", "none"]
    std_floor: NonNegative
    """The least that advantages are divided by, in units of the reward."""
    min_std: NonNegative
    """A group whose reward std is at most this is dead: it carries no signal."""
    dead_groups: Literal["keep", "drop", "resample"]
    """keep: no advantage, but the KL in the loss and the entropy bonus count. drop: out of the loss; where all are, the
    gradient is zero, though the optimizer's momentum goes on. resample: another prompt takes its place once, at its
    budget; what is dead even then is dropped."""
    reward: RewardConfig
    filter: FilterConfig
    evaluate_every: Count
    """Optimizer steps between evaluations of the mode on validation questions."""
    validation_questions: Count
    """Per benchmark."""
    checkpoint_every: Count
    collapse: CollapseConfig

    @model_validator(mode="after")
    def _checkpoints_at_rollouts(self):
        for name in ("checkpoint_every", "evaluate_every", "steps"):
            value = getattr(self, name)
            if value % self.num_iterations:
                raise ValueError(
                    f"{name} must be a multiple of num_iterations={self.num_iterations}, but got {name}={value}"
                )
        return self

    @model_validator(mode="after")
    def _loss_has_its_level(self):
        """TRL only warns of these, and computes something else than the papers do."""
        level = {"luspo": "sequence", "vespo": "token", "bnpo": "token", "dr_grpo": "token", "dapo": "token"}
        level["cispo"] = "token"
        wanted = level.get(self.loss_type, self.importance_level)
        if self.importance_level != wanted:
            raise ValueError(
                f"importance_level must be {wanted} for loss_type={self.loss_type}, but got {self.importance_level}"
            )
        if self.loss_type == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high must be at least 1 for loss_type=cispo, which clips the ratio itself there, but got "
                f"{self.epsilon_high}"
            )
        return self

    @model_validator(mode="after")
    def _kl_in_the_reward_is_k1(self):
        """There only its value counts, not its gradient: that of k2 and k3 pulls towards nothing (see k1)."""
        if self.beta and self.kl_placement == "reward" and self.kl_estimator != "k1":
            raise ValueError(
                f"kl_estimator must be k1 for kl_placement=reward, but got {self.kl_estimator}: k2 and k3 do not lead "
                "to the reference from there, and exact is one number for a whole group, which cancels"
            )
        return self

    @model_validator(mode="after")
    def _sizes_do_not_weigh(self):
        """A mean over the picks of each selection weighs it by 1 / size, which is biased where the size is drawn."""
        if self.distribution == "bernoulli" and self.loss_type in ("grpo", "sapo"):
            raise ValueError(
                f"loss_type must not be a mean over a selection's picks for distribution=bernoulli, whose selections "
                f"differ in size, but got {self.loss_type}; take dapo or bnpo"
            )
        return self


class SupervisedConfig(Section):
    """Training by a relaxation of the selection instead of by GRPO; grip_core/supervised/ has one file a method."""

    method: Literal["none", "gumbel", "soft_topk", "diffprune", "distill"]
    """none: training is by GRPO."""
    steps: Count
    prompts_per_step: Count
    learning_rate: Rate
    lr_schedule: Literal["constant", "linear", "cosine"]
    """After the warm-up of `lr_warmup_steps`."""
    lr_warmup_steps: Annotated[int, Field(ge=0)]
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    temperature: Annotated[float, Field(gt=0.0)]
    """gumbel, soft_topk, diffprune: what scores are divided by in the soft mask."""
    bce_low: NonNegative
    bce_high: NonNegative
    """soft_topk: weight of the pull towards a hard mask, at the first step and at the last."""
    sharpness: Annotated[float, Field(gt=0.0)]
    """distill: exponent on the teacher's distribution."""
    filter: FilterConfig
    evaluate_every: Count
    """Optimizer steps between evaluations of the mode on validation questions."""
    checkpoint_every: Count


class EvaluateConfig(Section):
    """The grid of the final evaluation on the test split."""

    budgets: Annotated[list[Count], *Several]
    baselines: Annotated[list[str], *Several]
    random_seeds: Annotated[list[Seed], *Several]
    batch_size: Count
    headline_share: Share
    """The headline number averages the budgets of at most this share of the tokens."""


class TimingConfig(Section):
    """What the cost measurement runs."""

    budgets: Annotated[list[Count], *Several]
    """Of the embedded VLM's tokens; another shape keeps the same shares of its own."""
    methods: Annotated[list[str], *Several]
    """Baselines, and grip, warmup and full."""
    batch_sizes: Annotated[list[Count], *Several]
    repetitions: Annotated[int, Field(ge=3)]
    """Rounds that count; quartiles need a few."""
    warmups: Count
    """Rounds before them that do not."""


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
