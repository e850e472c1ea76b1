"""Launching a study, and going on with one; both may be done twice."""

from __future__ import annotations

import difflib
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import TrialState

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.files import write_text
from studies.claims import trials_left
from studies.comparison import Comparison
from studies.crew import check_crew
from studies.definition import Definition, as_yaml
from studies.folder import Study, StudyFolder
from studies.jobs import active, submit
from studies.profile import Profile
from studies.provenance import at_launch
from studies.sampling import grid_points, quiet_optuna
from studies.settings import Settings
from studies.snapshot import take_snapshot
from studies.space import check_space, own_keys, trial_params
from studies.storage import check_locking, load_study, open_storage
from studies.trainable import load_trainable
from studies.void import refusals, told, void_settings


@dataclass(frozen=True)
class Sent:
    """What a launch came to."""

    jobs: list[str]
    workers: int
    """How many jobs were to be sent; an array is one id for several."""
    already: int
    """Jobs that were there before."""
    reason: str | None
    """Why none were sent."""


def launch(
    root: Path,
    definition: Definition,
    params: Params,
    profile: Profile,
    storage: str | None,
    queued: list[Settings],
) -> Sent:
    """Make the study, or go on with it, and send its workers. `queued` settings are tried before any others.

    Raises UserError if anything in it is wrong, or if a study of that name has another definition. Warns on stderr of
    settings that matter in a part of the space only.
    """
    check(definition, params)
    check_crew(params.vlm.processes, profile)
    findings = void_settings(definition, params)
    if refused := refusals(definition, findings):
        raise UserError(refused)
    for finding in findings:
        print(f"warning: {told(definition, finding)}", file=sys.stderr)
    load_trainable(definition.trainable).check_inputs(params)
    folder = StudyFolder((root / definition.name).absolute())
    folder.path.mkdir(parents=True, exist_ok=True)
    check_locking(folder.path)
    with folder.lock():
        if folder.exists:
            _update(folder, definition, params, profile, storage, queued)
        else:
            _create(folder, definition, params, profile, storage, queued)
    return resume(folder)


def check(definition: Definition, params: Params) -> None:
    """Raise UserError for whatever makes a study impossible, wherever it is launched."""
    check_space(definition, params)
    trainable = load_trainable(definition.trainable)
    if definition.ablation is not None and not issubclass(trainable, Comparison):
        raise UserError(
            f"{definition.name}: trainable must be a studies.comparison:Comparison for an ablation, whose arms are "
            f"compared by their test answers, but got {definition.trainable}; set trainable: studies.ablated:Ablation"
        )
    trainable.check_keys(own_keys(definition))
    for name, arm in definition.arms.items():
        trainable.check_trial(trial_params(definition, params, arm), params, f"{definition.name}: arms.{name}")


def resume(folder: StudyFolder, profile: Profile | None = None, new_code: bool = False) -> Sent:
    """Take the stop flag away and send as many workers as are missing, with another profile if one is given.

    Workers run the code of the launch, or with `new_code` that of now. Raises UserError while workers are still on
    their way out.
    """
    with folder.lock():  # two launches at once must not both send what is missing
        record = folder.read()
        there = active(folder)
        if folder.stop_flag.exists() and "RUNNING" in there.values():
            raise UserError(
                f"workers of {record.definition.name} are still putting their trials down; wait until `status` shows "
                "none, or kill them by `stop --now`"
            )
        if new_code:
            code = take_snapshot(folder, record.definition.trainable)
            record = replace(record, code=code, provenance=at_launch(code))
        if profile is not None:
            record = replace(record, profile=profile.model_dump())
        check_crew(record.params.vlm.processes, Profile(**record.profile))
        folder.write(record)
        folder.stop_flag.unlink(missing_ok=True)
        left = trials_left(record, folder, load_study(record.definition.name, record.storage))
        chosen = Profile(**record.profile)
        missing = jobs_wanted(record.definition, chosen, left) - len(there)
        if missing <= 0:
            return Sent([], 0, len(there), "no trial is left" if left == 0 else None)
        for needed in (folder.logs, folder.workers, folder.trials):
            needed.mkdir(parents=True, exist_ok=True)
        return Sent(submit(folder, record, chosen, missing), missing, len(there), None)


def jobs_wanted(definition: Definition, profile: Profile, trials: int) -> int:
    """How many jobs to send for so many trials: no more than run at a time, or where a job ends after a few trials as
    many as are needed; and none whose workers would all be idle."""
    needed = -(-trials // (profile.runs_per_vlm * (definition.trials_per_job or 1)))
    return min(needed, profile.workers) if definition.trials_per_job is None else needed


def _create(
    folder: StudyFolder,
    definition: Definition,
    params: Params,
    profile: Profile,
    storage: str | None,
    queued: list[Settings],
) -> None:
    quiet_optuna()
    where = storage or str(folder.journal)
    study = optuna.create_study(
        study_name=definition.name,
        storage=open_storage(where),
        directions=definition.directions,
        load_if_exists=True,
    )
    # A launch that was cut off before it wrote its record is done again from the start.
    if study.trials and any(trial.state != TrialState.WAITING for trial in study.trials):
        raise UserError(
            f"the storage holds trials of a study {definition.name} that {folder.path} knows nothing of; choose "
            "another name, or delete it there"
        )
    _queue(study, definition, queued)
    code = take_snapshot(folder, definition.trainable)
    directory = str(Path.cwd())
    record = Study(definition, params, profile.model_dump(), where, code, directory, time.time(), at_launch(code))
    _write(folder, record)


def _write(folder: StudyFolder, record: Study) -> None:
    write_text(folder.path / "definition.yaml", as_yaml(record.definition))
    write_text(folder.path / "params.yaml", as_yaml(record.params))
    folder.write(record)


def _queue(study: optuna.Study, definition: Definition, queued: list[Settings]) -> None:
    """Queue settings, each once: the given ones, or a grid's points up to the budget."""
    known = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    for settings in queued or grid_points(definition):
        if settings not in known:
            study.enqueue_trial(settings)


def _update(
    folder: StudyFolder,
    definition: Definition,
    params: Params,
    profile: Profile,
    storage: str | None,
    queued: list[Settings],
) -> None:
    """Take over a larger budget and another profile; refuse everything else, for it would mix two studies."""
    record = folder.read()
    before, after = record.definition, definition
    grown = all(
        _at_least(getattr(after.budget, name), getattr(before.budget, name))
        for name in type(before.budget).model_fields
    )
    if grown:
        before = before.model_copy(update={"budget": after.budget})
    difference = [
        *_difference(as_yaml(before), as_yaml(after), "definition"),
        *_difference(as_yaml(record.params), as_yaml(params), "params.yaml"),
    ]
    if storage is not None and storage != record.storage:
        difference += [f"-storage: {record.storage}", f"+storage: {storage}"]
    if difference:
        raise UserError(
            f"the study {definition.name} was launched with other settings; only its budget may grow. Give the changed "
            "one another name, or undo this (what was launched is in {folder.path}/definition.yaml and params.yaml):\n"
            + "\n".join(difference)
        )
    _queue(load_study(definition.name, record.storage), after, queued)
    _write(folder, replace(record, definition=after, profile=profile.model_dump()))


def _at_least(after: float | None, before: float | None) -> bool:
    """Whether a budget has not shrunk; None is no limit."""
    return after is None or (before is not None and after >= before)


def _difference(before: str, after: str, name: str) -> list[str]:
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"launched {name}", f"new {name}", n=1, lineterm=""
        )
    )
