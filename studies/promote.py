"""From a study's best trials to params.yaml: re-test the best few on fresh seeds, and write down the winner of that.

The best of many tuned scores is partly luck; the re-test shows how much. Both are always told apart.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from grip_core.config import load
from grip_core.errors import UserError
from grip_core.files import atomic_file, write_text
from grip_core.statistics.intervals import Interval, mean_interval
from studies.definition import Definition, PromoteConfig, PrunerConfig, SamplerConfig
from studies.folder import Study, StudyFolder, read_lines
from studies.lease import read_lease
from studies.settings import Settings
from studies.space import DERIVED, trial_params
from studies.storage import load_study

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Retested:
    """A configuration's two scores."""

    trial: int
    """In the search."""
    settings: Settings
    tuned: float
    """Mean over the tuning seeds: what it was chosen by."""
    retested: Interval
    """Mean over fresh seeds, with its t interval."""


def promotion_of(definition: Definition) -> PromoteConfig:
    """How a study's best are re-tested. Raises UserError for a study of arms."""
    if definition.promote is None:
        raise UserError(
            f"{definition.name} compares arms, whose seeds tuned nothing: there is no winner to re-test; `export` it"
        )
    return definition.promote


def retest_definition(definition: Definition, count: int) -> Definition:
    """The study that runs the best configurations on the fresh seeds, to the end."""
    promote = promotion_of(definition)
    changes = {
        "name": f"{definition.name}-retest",
        "seeds": promote.seeds,
        "promote": promote.model_copy(update={"seeds": definition.seeds}),
        "pruner": PrunerConfig(name="none"),
        "sampler": SamplerConfig(name="random", seed=definition.sampler.seed),
        "budget": definition.budget.model_copy(update={"trials": count, "gpu_hours": None, "hours": None}),
    }
    return definition.model_copy(update=changes)


def best_few(study: optuna.Study, definition: Definition) -> list[FrozenTrial]:
    """The best complete, feasible trials by their tuned score, the best first; different settings only.

    Raises UserError for arms or several objectives, or before a trial is complete.
    """
    promote = promotion_of(definition)
    if len(definition.objectives) > 1:
        raise UserError(
            f"{definition.name} has {len(definition.objectives)} objectives, of which no trial is best; choose one "
            "from `status` and set its values in params.yaml"
        )
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    feasible = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    if not feasible:
        raise UserError(f"{definition.name} has no complete, feasible trial yet; see `status`")
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    ordered = sorted(feasible, key=lambda trial: (sign * float(trial.value or 0.0), trial.number))
    distinct: list[FrozenTrial] = []
    for trial in ordered:
        if all(trial.params != other.params for other in distinct):
            distinct.append(trial)
    return distinct[: promote.best]


def retested(search: StudyFolder, retest: StudyFolder) -> list[Retested]:
    """Every re-tested configuration, the best by the re-test first. Raises UserError while the re-test runs."""
    record, again = search.read(), retest.read()
    tuned = best_few(load_study(record.definition.name, record.storage), record.definition)
    second = load_study(again.definition.name, again.storage)
    every = second.get_trials(deepcopy=False)
    left = [trial.number for trial in every if not trial.state.is_finished()]
    trials = [trial for trial in every if trial.state == TrialState.COMPLETE]
    if left:
        raise UserError(
            f"{again.definition.name}: trials {left} are not complete; wait for them, or see "
            f"`python -m studies status {again.definition.name}`"
        )
    failed = [trial.params for trial in every if trial.state == TrialState.FAIL]
    failed = [params for params in failed if all(params != trial.params for trial in trials)]
    if failed:
        raise UserError(
            f"{again.definition.name}: {len(failed)} configurations failed on fresh seeds (`status` says of what); "
            f"`python -m studies retry {again.definition.name}` and `resume` try them again. What keeps failing is no "
            "winner: to go without it, lower promote.best and give the study another name"
        )
    by_settings = {_key(trial.params): trial for trial in tuned}
    found = []
    for trial in trials:
        first = by_settings.get(_key(trial.params))
        if first is None:
            raise UserError(
                f"{again.definition.name} re-tested other trials than those now best in {record.definition.name}; the "
                "search went on since. Remove the folder of the re-test, and its study, to begin it anew"
            )
        interval = mean_interval(np.array(_seed_values(retest, again, trial)), CONFIDENCE)
        found.append(Retested(first.number, dict(trial.params), float(first.value or 0.0), interval))
    sign = -1 if second.direction == StudyDirection.MAXIMIZE else 1
    return sorted(found, key=lambda item: sign * item.retested.effect)


def write_winner(params_path: Path, search: StudyFolder, winner: Retested, seeds: list[int]) -> Path:
    """Put the winner's settings into params.yaml, with a comment that says where they come from; a file with the rest.

    Comments and order of params.yaml stay. Raises UserError if the schema refuses the result.
    """
    record = search.read()
    definition = record.definition
    params = trial_params(definition, record.params, winner.settings)
    settings: dict[str, Any] = {**definition.params, **winner.settings}
    settings |= {key: _get(params.model_dump(), key) for key in DERIVED if key != "grpo.seeds"}
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    document = yaml.load(params_path.read_text())
    for key, value in settings.items():
        *sections, name = key.split(".")
        place = document
        for section in sections:
            place = place[section]
        place[name] = value
    provenance = {
        "study": definition.name,
        "written": time.strftime("%Y-%m-%d"),
        "winner": {**asdict(winner), "retest_seeds": seeds, "tuning_seeds": definition.seeds},
        "settings": settings,
        "provenance": record.provenance,
    }
    target = params_path.parent / "studies" / "promoted" / f"{definition.name}.json"
    temporary = params_path.with_name(f".{params_path.name}.promoted")
    try:
        with open(temporary, "w") as file:
            yaml.dump(document, file)
        load(temporary)
        text = _with_comment(temporary.read_text(), definition.name, winner, len(seeds))
    finally:
        temporary.unlink(missing_ok=True)
    write_text(target, json.dumps(provenance, indent=1))
    with atomic_file(params_path) as binary:
        binary.write(text.encode())
    return target


MARK = "# Promoted from the study "


def _with_comment(text: str, name: str, winner: Retested, seeds: int) -> str:
    """The params with one line about the study, in place of an earlier promotion's."""
    lines = [line for line in text.splitlines() if not line.startswith(MARK)]
    interval = f"{winner.retested.effect:.4f} [{winner.retested.low:.4f}, {winner.retested.high:.4f}]"
    mark = f"{MARK}{name}, trial {winner.trial}: tuned {winner.tuned:.4f}, re-tested {interval} on {seeds} fresh seeds."
    comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    return "\n".join([*lines[:comments], mark, *lines[comments:]]) + "\n"


def _seed_values(folder: StudyFolder, record: Study, trial: FrozenTrial) -> list[float]:
    """The objective of every seed at the end of its run."""
    lease = read_lease(folder.lease(trial.number))
    assert lease is not None  # the trial is complete
    metric = record.definition.objectives[0].metric
    runs = [folder.run(trial.number, lease.attempt, seed) for seed in record.definition.seeds]
    return [float(read_lines(run / "metrics.jsonl")[-1][metric]) for run in runs]


def _get(raw: dict[str, Any], key: str) -> Any:
    value: Any = raw
    for part in key.split("."):
        value = value[part]
    return value


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
