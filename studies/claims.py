"""Which trial a worker does next: one that was left behind, or a new one, until the budget is spent.

All of it happens under the study's lock, so that totals are exact whatever the storage: no two workers take the same
trial, and no worker begins one too many.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from studies.failures import Failure, tell_failure
from studies.folder import Study, StudyFolder
from studies.lease import Identity, Lease, Watch, lease_lock, new_lease, read_lease, write_lease
from studies.sampling import make_sampler
from studies.settings import Settings
from studies.slurm import fate
from studies.space import suggest
from studies.workers import spent_gpu_hours

RETRY_OF = "retry_of"
"""Attribute of a trial that repeats a failed one; it does not count against the budget."""


@dataclass(frozen=True)
class Claim:
    """A trial that this worker may work on."""

    trial: Trial
    settings: Settings
    lease: Lease


@dataclass(frozen=True)
class Nothing:
    """No trial; `wait` if one may yet be left behind by a worker that does not move."""

    reason: str
    wait: bool = False


def identify() -> Identity:
    """This process. The job's name outlives a requeue, the worker's does not."""
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    slurm = f"{array}_{element}" if array else os.environ.get("SLURM_JOB_ID")
    job = f"slurm-{slurm}" if slurm else f"local-{socket.gethostname()}-{os.getpid()}"
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return Identity(f"{job}-{uuid.uuid4().hex[:8]}", job, restarts, socket.gethostname())


def claim(
    study: optuna.Study, folder: StudyFolder, record: Study, me: Identity, watch: Watch, may_begin: bool = True
) -> Claim | Nothing:
    """Take a trial, a new one only if it `may_begin`.

    May be called again after a storage error: what a half-done call left is taken up first.
    """
    with folder.lock():
        if folder.stop_flag.exists():
            return Nothing("the study was stopped")
        trials = study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        watch.forget(but=[folder.lease(trial.number) for trial in running])
        for trial in running:
            lease = _take_over(study, folder, record, me, watch, trial)
            if lease is not None:
                return _claimed(study, record, trial._trial_id, lease)
        reason = spent(record, folder, trials) if may_begin else "this worker is to begin no more"
        if reason is None:
            # Two workers that ask one after the other must not draw from the same stream.
            study.sampler = make_sampler(record.definition, len(trials))
            new = study.ask()
            suggest(new, record.definition)
            lease = new_lease(me)
            with lease_lock(folder.lease(new.number)):
                write_lease(folder.lease(new.number), lease)
            return _claimed(study, record, new._trial_id, lease)
        # Who leaves while another works on must be sure that it does: nobody would take its trial over.
        now = time.monotonic()
        return Nothing(reason, wait=not all(watch.alive(folder.lease(trial.number), now) for trial in running))


def spent(record: Study, folder: StudyFolder, trials: list[FrozenTrial]) -> str | None:
    """Why no new trial may begin; None if one may. What is queued may begin while there is time."""
    budget = record.definition.budget
    begun = sum(RETRY_OF not in trial.user_attrs for trial in trials)
    if begun >= budget.trials and not any(trial.state == TrialState.WAITING for trial in trials):
        return f"all {budget.trials} trials have begun"
    if budget.hours is not None and time.time() - record.launched_at >= budget.hours * 3600:
        return f"the {budget.hours} hours since the launch are over"
    if budget.gpu_hours is not None and spent_gpu_hours(folder) >= budget.gpu_hours:
        return f"the {budget.gpu_hours} GPU-hours are spent"
    return None


def trials_left(record: Study, folder: StudyFolder, study: optuna.Study) -> int:
    """How many trials are to be begun or finished."""
    trials = study.get_trials(deepcopy=False)
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    if spent(record, folder, trials) is not None:
        return running
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    begun = sum(RETRY_OF not in trial.user_attrs for trial in trials)
    return running + waiting + max(0, record.definition.budget.trials - begun)


def _take_over(
    study: optuna.Study, folder: StudyFolder, record: Study, me: Identity, watch: Watch, trial: FrozenTrial
) -> Lease | None:
    """A new lease on a running trial that nobody works on; None if somebody does, or if it is lost for good."""
    path = folder.lease(trial.number)
    before = read_lease(path)
    # Without a lease its worker was cut off between asking for it and taking it: under the study's lock there is no
    # other way. With mine, I was, by the storage.
    if before is None or before.released or before.owner.worker == me.worker:
        return _take(study, folder, trial, me, before, lost=False)
    # My own job was requeued. Should the process before me live on after all, its token is void from here.
    if not me.succeeds(before.owner) and not watch.expired(path, before, time.monotonic()):
        return None
    lease = _take(study, folder, trial, me, before, lost=True)
    if lease is not None and lease.stuck >= record.definition.failures.attempts:
        _give_up(study, folder, trial, before.owner, lease)
        return None
    return lease


def _give_up(study: optuna.Study, folder: StudyFolder, trial: FrozenTrial, owner: Identity, lease: Lease) -> None:
    """Fail a trial that has lost too many workers; `owner` was the last."""
    card = folder.worker(owner.worker)
    log = json.loads(card.read_text())["log"] if card.exists() else ""
    message = f"lost {lease.stuck} workers without getting on, the last one {owner.worker} on {owner.host}"
    tell_failure(study, trial._trial_id, Failure(fate(owner.job), message, "", log, lease.attempt, owner.host))


def _take(
    study: optuna.Study, folder: StudyFolder, trial: FrozenTrial, me: Identity, before: Lease | None, lost: bool
) -> Lease | None:
    """Put a new lease in force; None if the trial was finished by a worker that was slow, not dead."""
    path = folder.lease(trial.number)
    lease = new_lease(me, before, lost)
    with lease_lock(path):
        if _finished(study, trial):
            return None
        write_lease(path, lease)
    return lease


def _finished(study: optuna.Study, trial: FrozenTrial) -> bool:
    return study.get_trials(deepcopy=False)[trial.number].state.is_finished()


def _claimed(study: optuna.Study, record: Study, trial_id: int, lease: Lease) -> Claim:
    trial = Trial(study, trial_id)
    # What a worker that was cut off had not drawn is drawn now, from the trial's own stream.
    study.sampler = make_sampler(record.definition, trial.number)
    return Claim(trial, suggest(trial, record.definition), lease)


def carry_over(folder: StudyFolder, number: int, attempt: int) -> Path:
    """The attempt's folder, holding all runs as far as the attempts before it had made them safe.

    The worker before may still be writing. What is copied in this order is whole or told to be damaged: a run's status
    first, which says "finished" only once everything else stands, its rows last, of which a checkpoint needs those
    before it.
    """
    target = folder.attempt(number, attempt)
    if target.exists():
        return target
    earlier = [path for n in range(1, attempt) if (path := folder.attempt(number, n)).exists()]
    # Renamed into place when it is whole: the next attempt begins from the last folder that there is.
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    for run in sorted(path for path in earlier[-1].iterdir() if path.is_dir()) if earlier else []:
        _copy_run(run, temporary / run.name)
    temporary.rename(target)
    return target


def _copy_run(run: Path, target: Path) -> None:
    target.mkdir()
    order = {"status.json": 0, "metrics.jsonl": 2}
    files = [path for path in run.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (order.get(path.name, 1), path)):
        copy = target / path.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A checkpoint may just have been replaced by its run; its seal tells that it is not whole.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, copy)
