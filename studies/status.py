"""How a study stands: gathered here as plain data, shown by studies/show.py."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from grip_core.errors import UserError
from studies.claims import RETRY_OF, spent
from studies.failures import failure_of
from studies.folder import Study, StudyFolder, read_lines
from studies.jobs import active
from studies.lease import Lease, read_lease
from studies.space import trial_params
from studies.storage import load_study
from studies.trainable import stages
from studies.workers import Card, read_cards, spent_gpu_hours


@dataclass(frozen=True)
class Running:
    """A trial that is neither finished nor waiting."""

    number: int
    lease: Lease | None
    seeds: dict[int, int]
    """The optimizer step that each seed's checkpoint has."""
    steps: int
    """What they go up to."""


@dataclass(frozen=True)
class FailureGroup:
    """Failed trials with the same cause."""

    cause: str
    trials: list[int]
    message: str
    log: str


@dataclass(frozen=True)
class Status:
    """A study at one moment."""

    name: str
    states: dict[str, int]
    done: int
    """Trials that have ended; a repeat is not counted again."""
    trials: int
    """The budget."""
    spent: str | None
    """Why no new trial begins; None while one may."""
    best: list[FrozenTrial]
    """The best trial, or the best compromises between several objectives."""
    running: list[Running]
    failures: list[FailureGroup]
    gpu_hours: float
    gpu_hours_cap: float | None
    worker_hours: float
    hours: float
    hours_cap: float | None
    jobs: dict[str, str] | str
    """States by job, or why they are not known."""
    cards: list[Card]
    stopped: str | None

    @property
    def finished(self) -> bool:
        """Whether no trial is open and none will begin."""
        return self.spent is not None and not self.states.get("RUNNING")


def gather(folder: StudyFolder) -> Status:
    """Read everything there is to know. Raises UserError if there is no such study or its storage is away."""
    record = folder.read()
    study = load_study(record.definition.name, record.storage)
    trials = study.get_trials(deepcopy=False)
    cards = read_cards(folder)
    budget = record.definition.budget
    try:
        jobs: dict[str, str] | str = active(folder)
    except UserError as error:
        jobs = str(error)
    return Status(
        name=record.definition.name,
        states=dict(Counter(trial.state.name for trial in trials)),
        done=sum(trial.state.is_finished() and RETRY_OF not in trial.user_attrs for trial in trials),
        trials=budget.trials,
        spent=spent(record, folder, trials),
        best=best_trials(study),
        running=[_running(folder, record, trial) for trial in trials if trial.state == TrialState.RUNNING],
        failures=group_failures(trials),
        gpu_hours=spent_gpu_hours(folder),
        gpu_hours_cap=budget.gpu_hours,
        worker_hours=sum(card.seconds for card in cards) / 3600,
        hours=(time.time() - record.launched_at) / 3600,
        hours_cap=budget.hours,
        jobs=jobs,
        cards=cards,
        stopped=folder.stop_flag.read_text().strip() if folder.stop_flag.exists() else None,
    )


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best feasible complete trial, or the Pareto front for several objectives; none before there is one."""
    try:
        return study.best_trials if len(study.directions) > 1 else [study.best_trial]
    except ValueError:
        return []


def group_failures(trials: list[FrozenTrial]) -> list[FailureGroup]:
    """Failed trials by cause, the most frequent first, each with one message and one log."""
    groups: dict[str, list[tuple[FrozenTrial, dict[str, Any]]]] = {}
    for trial in trials:
        failure = failure_of(trial)
        if failure is not None:
            groups.setdefault(failure["cause"], []).append((trial, failure))
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [
        FailureGroup(cause, [trial.number for trial, _ in items], items[-1][1]["message"], items[-1][1]["log"])
        for cause, items in ordered
    ]


def share_in_trials(cards: list[Card]) -> float | None:
    """The share of the workers' time, from their first question for a trial to their end, that was spent in trials."""
    asked = sum(card.seconds - card.loading for card in cards)
    return sum(card.in_trials for card in cards) / asked if asked > 0 else None


def _running(folder: StudyFolder, record: Study, trial: FrozenTrial) -> Running:
    lease = read_lease(folder.lease(trial.number))
    seeds: dict[int, int] = {}
    for seed in record.definition.seeds:
        rows = read_lines(folder.newest_run(trial.number, seed) / "metrics.jsonl")
        seeds[seed] = int(rows[-1]["step"]) if rows else 0
    settings = record.definition.settings(trial.params)
    steps = stages(record.definition, trial_params(record.definition, record.params, settings))[-1].step
    return Running(trial.number, lease, seeds, steps)
