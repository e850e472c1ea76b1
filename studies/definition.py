"""What a study is: the schema of studies/*.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from grip_core.config import Count, Params, Rate, Section, Seed, Several, load, parse, read_yaml
from studies.ablation import AblationConfig, with_arms
from studies.settings import Settings, Value

ARM = "arm"
"""What Optuna, tables and exports call the choice of an arm."""
Positive = Annotated[float, Field(gt=0.0)]


def _one_folder(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"it names the study's folder, so it must be a plain file name, but got {name!r}")
    return name


def _class_path(path: str) -> str:
    if path.count(":") != 1 or not all(part.isidentifier() for part in path.replace(":", ".").split(".")):
        raise ValueError(f"it must be written as package.module:Class, but got {path!r}")
    return path


class Dimension(Section):
    """One key's values: `choices`, or everything from `low` to `high`, both included.

    With `when`, the key is searched only in trials where other keys have one of the given values; elsewhere it keeps
    its value of params.yaml.
    """

    choices: Annotated[list[Value], *Several] | None = None
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    when: dict[str, Annotated[list[Value], *Several]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_form(self):
        ends = (self.low is not None) + (self.high is not None)
        if (self.choices is None) == (ends == 0) or ends == 1:
            raise ValueError("either choices or both low and high must be given")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high, but got low={self.low} and high={self.high}")
        if self.log and not (self.low is not None and self.low > 0):
            raise ValueError(f"log needs a low above 0, but got low={self.low}")
        return self

    @property
    def extremes(self) -> list[Value]:
        """All choices, or the range's ends."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]  # type: ignore[list-item]


class SamplerConfig(Section):
    """Who proposes configurations."""

    name: Literal["tpe", "random", "grid"]
    startup_trials: Count = 10
    """Random ones before "tpe" trusts its model."""
    seed: Seed = 0


class PrunerConfig(Section):
    """Who stops a trial early.

    "successive_halving" and "hyperband" see the mean over seeds after every rung; "wilcoxon" sees one seed's final
    value after the other.
    """

    name: Literal["none", "successive_halving", "hyperband", "wilcoxon"]
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    p_threshold: Rate = 0.1


class ComputeConfig(Section):
    """What every trial gets. Equal numbers of scored selections, not of steps: a larger group costs more a step."""

    selections: Count
    """Scored selections per seed: prompts x group size x rollouts."""
    rungs: Count
    """Equal parts of them, after each of which a trial is evaluated, reported and offered to the pruner."""
    checkpoints_per_rung: Count = 1


class ObjectiveConfig(Section):
    """What is optimised: a metric of the training's rows at a rung, averaged over the seeds."""

    metric: str
    direction: Literal["maximize", "minimize"]


class ConstraintConfig(Section):
    """A configuration is feasible where the metric, averaged over the seeds, is at most `at_most`."""

    metric: str
    at_most: float


class StudyBudget(Section):
    """When the study ends: no trial is begun once one of these is spent; those that run are finished."""

    trials: Count
    gpu_hours: Positive | None = None
    hours: Positive | None = None
    """Wall time since the first launch."""


class FailureConfig(Section):
    """What a failing trial does to the study."""

    policy: Literal["continue", "fail_fast"] = "continue"
    attempts: Count = 3
    """How many workers a trial may lose before it counts as failed. Pre-emptions are not losses."""
    trial_minutes: Positive | None = None
    """How long a trial may run, all its attempts together, before it counts as failed."""


class LeaseConfig(Section):
    """How a lost worker is told from a slow one.

    A worker raises its trial's counter every `beat` seconds. Another takes the trial over once it has seen the counter
    stand still for `grace` seconds of its own clock, in which it could read the file all along.
    """

    beat: Positive = 15.0
    grace: Positive = 300.0

    @model_validator(mode="after")
    def _several_beats(self):
        if self.grace < 4 * self.beat:
            raise ValueError(
                f"grace must be at least 4 beats, or a slow file system loses live workers, but got "
                f"grace={self.grace} and beat={self.beat}"
            )
        return self


class ResourceConfig(Section):
    """What a job of this study needs; where given it goes before the profile's."""

    gpus: Annotated[int, Field(ge=0)] | None = None
    cpus: Count | None = None
    memory_gb: Positive | None = None
    minutes: Count | None = None


class PromoteConfig(Section):
    """The re-test of the best configurations."""

    best: Count
    seeds: Annotated[list[Seed], *Several]
    """Fresh ones."""


class Definition(Section):
    """A study of a `space`, which maps keys of params.yaml to their values, or of named `arms`, each a set of settings.
    An `ablation` is a study of arms that `load_definition` has made of its factors.

    An arm is run once, to its end, in the order given; nothing is drawn, pruned or promoted. `params` holds keys that
    differ from params.yaml in all trials; an arm's own settings go before them.
    """

    name: Annotated[str, AfterValidator(_one_folder)]
    space: dict[str, Dimension] = Field(default_factory=dict)
    arms: dict[str, Settings] = Field(default_factory=dict)
    ablation: AblationConfig | None = None
    params: dict[str, Value] = Field(default_factory=dict)
    trainable: Annotated[str, AfterValidator(_class_path)] = "studies.training:Training"
    """What a trial runs; the contract is in studies/trainable.py."""
    objectives: Annotated[list[ObjectiveConfig], Field(min_length=1)]
    constraints: list[ConstraintConfig] = Field(default_factory=list)
    sampler: SamplerConfig
    pruner: PrunerConfig
    seeds: Annotated[list[Seed], *Several]
    """The same for every configuration: of a space tuning seeds, of arms those they are compared on."""
    compute: ComputeConfig
    budget: StudyBudget
    promote: PromoteConfig | None = None
    trials_per_job: Count | None = None
    """After how many trials a worker ends; its job ends with the last of its workers."""
    resources: ResourceConfig = ResourceConfig()
    failures: FailureConfig = FailureConfig()
    lease: LeaseConfig = LeaseConfig()

    @model_validator(mode="before")
    @classmethod
    def _arms_need_no_search(cls, raw: Any) -> Any:
        if not (isinstance(raw, dict) and isinstance(raw.get("arms"), dict) and raw["arms"]):
            return raw
        return {"sampler": {"name": "grid"}, "pruner": {"name": "none"}, "budget": {"trials": len(raw["arms"])}, **raw}

    @model_validator(mode="after")
    def _space_or_arms(self):
        if bool(self.space) == bool(self.arms):
            raise ValueError(f"exactly one of space and arms must be given, but got {'both' if self.arms else 'none'}")
        if self.space and self.promote is None:
            raise ValueError("promote is missing; a study of a space re-tests its best")
        searched = [self.sampler.name != "grid", self.pruner.name != "none", self.promote is not None]
        if self.arms and any(searched):
            key = ("sampler", "pruner", "promote")[searched.index(True)]
            raise ValueError(f"{key} is for a space: every arm is run, to its end; remove it")
        return self

    @model_validator(mode="after")
    def _seeds_apart(self):
        if self.promote is None:
            return self
        shared = sorted(set(self.seeds) & set(self.promote.seeds))
        if shared:
            raise ValueError(
                f"seeds and promote.seeds must share none, for the re-test would favour what was tuned on it; got "
                f"{shared} in both"
            )
        return self

    @model_validator(mode="after")
    def _pruner_fits(self):
        if self.pruner.name == "wilcoxon" and len(self.seeds) < 5:
            raise ValueError(f"the wilcoxon pruner compares seeds and needs at least 5 of them, but got {self.seeds}")
        if self.pruner.name != "none" and len(self.objectives) > 1:
            raise ValueError(
                f"pruning has no meaning for several objectives, but got pruner {self.pruner.name} and "
                f"{len(self.objectives)} objectives; set pruner.name to none, or make all but one constraints"
            )
        return self

    @model_validator(mode="after")
    def _grid_is_finite(self):
        endless = [key for key, dimension in self.searched.items() if dimension.choices is None]
        if self.sampler.name == "grid" and endless:
            raise ValueError(f"a grid needs choices for every key, but got a range for {', '.join(endless)}")
        conditional = [key for key, dimension in self.searched.items() if dimension.when]
        if self.sampler.name == "grid" and conditional:
            raise ValueError(f"a grid cannot be conditional, but got when for {', '.join(conditional)}; use tpe")
        size = math.prod(len(dimension.extremes) for dimension in self.searched.values())
        if self.sampler.name == "grid" and self.budget.trials > size:
            raise ValueError(f"budget.trials must be at most the grid's {size} points, but got {self.budget.trials}")
        return self

    @property
    def searched(self) -> dict[str, Dimension]:
        """What a trial's parameters are in Optuna: the space, or which arm it is."""
        return {ARM: Dimension(choices=list(self.arms))} if self.arms else self.space

    def settings(self, drawn: Mapping[str, Any]) -> Settings:
        """What a trial sets, from its parameters in Optuna."""
        return dict(self.arms[drawn[ARM]] if self.arms else drawn)

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """One an objective."""
        return [objective.direction for objective in self.objectives]


def load_definition(path: Path, params: Params | None = None) -> Definition:
    """Read and check a definition; an ablation gets its arms, which are those of `params` or else of ./params.yaml.

    Raises UserError, one line a mistake.
    """
    raw = read_yaml(path)
    if isinstance(raw, dict) and raw.get("ablation") is not None:
        raw = with_arms(raw, params or load(), str(path))
    return parse(Definition, raw, str(path))


def as_yaml(definition: Section) -> str:
    """A section as text, in the schema's order: what differences are shown of."""
    return yaml.safe_dump(definition.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
