"""A worker: loads the model once, then takes trials until the budget is spent. An element of a submitit array."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from submitit.helpers import DelayedSubmission

from grip_core.errors import UserError
from studies.claims import Claim, claim, identify, trials_left
from studies.crew import Crew
from studies.failures import TOGETHER, failure_of
from studies.folder import Study, StudyFolder
from studies.lease import Identity, Watch, read_lease
from studies.profile import Profile
from studies.provenance import digest, of_worker
from studies.sampling import make_pruner, quiet_optuna
from studies.storage import StorageAway, load_study, ride_out
from studies.team import Seat, lead
from studies.trainable import load_trainable
from studies.trial import Context, Outcome, run_trial
from studies.workers import Reporter, new_card

logger = logging.getLogger(__name__)
KILL_WAIT = 900
"""Seconds for which a worker that was told to end waits to be killed: longer than clusters give it."""
CREW_APART = "a trial has failed in one of its processes; see why before you resume"
CRASHES_IN_A_ROW = 3
"""After so many exceptions one after the other a worker ends: its GPU, its node or the code may be broken."""
DATA = "data_sha256"
"""Attribute of a study: the hash of what its first worker opened."""


class Worker:
    """What is pickled and sent: a callable of submitit's, which calls `checkpoint` when it requeues the job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> str:
        """Work, alone or as several workers; why it ended. Raises UserError if the study cannot be worked on at all."""
        _set_up()
        interrupt = Interrupt()
        reason = _job(StudyFolder(self.folder), lambda: bool(interrupt))
        interrupt.pass_on()
        return reason

    def checkpoint(self) -> DelayedSubmission:
        """For submitit: a requeued job does the same again; everything else lies in the study's folder."""
        return DelayedSubmission(self)


class Interrupt:
    """Turns the scheduler's signals into a flag; whoever sent one is answered once everything is safe.

    submitit would call `checkpoint` inside the handler, perhaps in the middle of an optimizer step. USR2 asks for a
    requeue. TERM under SLURM comes before a kill, after which SLURM itself requeues the job or does not.
    """

    def __init__(self) -> None:
        self.received: set[int] = set()
        self._requeue = signal.signal(signal.SIGUSR2, self._set)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def __bool__(self) -> bool:
        return bool(self.received)

    def pass_on(self) -> None:
        """Do what the signal asks for, if there was one: have submitit requeue the job, or wait for the kill."""
        waited = 0
        while "SLURM_JOB_ID" in os.environ and self.received and signal.SIGUSR2 not in self.received:
            if waited == KILL_WAIT:
                return
            time.sleep(1)
            waited += 1
        if signal.SIGUSR2 in self.received and callable(self._requeue):
            self._requeue(signal.SIGUSR2, None)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)
        logger.info("%s: going to stop at the next safe boundary", signal.Signals(number).name)


def take_seat(folder: StudyFolder, seat: Seat) -> str:
    """Be one of the workers of a job that has several; why it ended."""
    _set_up()
    interrupt = Interrupt()
    return work(folder, lambda: bool(interrupt), seat)


def work(folder: StudyFolder, interrupted: Callable[[], bool], seat: Seat | None = None) -> str:
    """Take trials until there are none; why it ended. `seat` is given to those that share a VLM."""
    record = folder.read()
    os.chdir(record.directory)
    me = identify() if seat is None else replace(identify(), job=seat.job)
    log = _log_path()
    lease = record.definition.lease
    gpus, team = Profile(**record.profile).gpus, None if seat is None else seat.team
    card = new_card(me.worker, me.job, me.host, gpus, log, team)
    reporter = Reporter(folder.worker(me.worker), card, lease.beat)
    reason, crew = "it failed; see its log", None
    try:
        study = ride_out("opening", lambda: load_study(record.definition.name, record.storage), interrupted)
        # Known before anything heavy is loaded.
        if idle := _nothing_to_do(folder, record, study):
            reason = idle
            return reason
        kind = load_trainable(record.definition.trainable)
        if record.params.vlm.processes > 1:
            crew = Crew(folder, record.params.vlm.processes, folder.logs / f"{me.worker}.log")
        trainable = kind(record.params) if seat is None else kind(record.params, seat.socket)
        study.pruner = make_pruner(record.definition)
        ride_out("comparing the data", lambda: _same_data(folder, study, digest(trainable.fingerprint)), interrupted)
        context = Context(
            study=study,
            folder=folder,
            record=record,
            trainable=trainable,
            provenance=of_worker(trainable.fingerprint, me.job),
            log=log,
            stopping=lambda: interrupted() or folder.stop_flag.exists(),
            deserted=lambda: crew is not None and crew.deserted(),
        )
        reporter.loaded()
        reason = _take_trials(context, me, reporter, interrupted, crew)
        if crew is not None and reason != CREW_APART:
            crew.dismiss()
    except StorageAway:
        if not interrupted():
            raise
        reason = "it was interrupted while the storage was away"
    finally:
        if crew is not None:
            crew.close()
        reporter.close(reason)
    logger.info("worker ends: %s", reason)
    return reason


def _set_up() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    quiet_optuna()


def _job(folder: StudyFolder, interrupted: Callable[[], bool]) -> str:
    """All that a job does: be a worker, or start several that share a VLM."""
    record = folder.read()
    workers = Profile(**record.profile).runs_per_vlm
    if workers == 1:
        return work(folder, interrupted)
    os.chdir(record.directory)
    study = ride_out("opening", lambda: load_study(record.definition.name, record.storage), interrupted)
    idle = _nothing_to_do(folder, record, study)
    return idle or lead(folder, min(workers, trials_left(record, folder, study)), interrupted)


def _nothing_to_do(folder: StudyFolder, record: Study, study: optuna.Study) -> str | None:
    """Why no worker is needed; None if one is."""
    if folder.stop_flag.exists():
        return "the study was stopped"
    return None if trials_left(record, folder, study) else "no trial is left"


def _take_trials(
    context: Context, me: Identity, reporter: Reporter, interrupted: Callable[[], bool], crew: Crew | None
) -> str:
    folder, definition = context.folder, context.record.definition
    poll = definition.lease.beat / 2
    watch = Watch(definition.lease.grace, poll)
    watch.start()
    done = crashed = 0
    while not interrupted():
        may_begin = done != definition.trials_per_job
        # Read anew each time: the budget may have grown.
        take = partial(claim, context.study, folder, folder.read(), me, watch, may_begin)
        found = ride_out("taking a trial", take, interrupted)
        if isinstance(found, Claim):
            outcome = _one_trial(context, found, reporter)
            done += outcome not in ("paused", "lost")
            crashed = crashed + 1 if outcome == "crashed" else 0
            if outcome == "lost" and superseded(folder, found.trial.number, me):
                return "SLURM has started its job again elsewhere"
            if crew is not None and outcome in ("failed", "crashed") and _apart(context, found):
                return CREW_APART
            if crashed == CRASHES_IN_A_ROW:
                return f"{crashed} trials in a row have crashed here; see their tracebacks before you resume"
        elif found.wait:
            time.sleep(poll)
        else:
            return found.reason
    return "it was interrupted"


def _apart(context: Context, found: Claim) -> bool:
    """Whether the processes of this worker may be at different places since the trial failed."""
    failure = failure_of(context.study._storage.get_trial(found.trial._trial_id))
    return failure is not None and failure["cause"] not in TOGETHER


def superseded(folder: StudyFolder, number: int, me: Identity) -> bool:
    """Whether a later start of this process's own job has taken that trial: then this one lives on by mistake."""
    lease = read_lease(folder.lease(number))
    return lease is not None and lease.owner.succeeds(me)


def _one_trial(context: Context, found: Claim, reporter: Reporter) -> Outcome:
    number = found.trial.number
    logger.info("trial %d, attempt %d: %s", number, found.lease.attempt, found.settings)
    reporter.begin(number)
    try:
        outcome = run_trial(context, found)
    finally:
        reporter.end()
    logger.info("trial %d: %s", number, outcome)
    if outcome in ("failed", "crashed") and context.record.definition.failures.policy == "fail_fast":
        context.folder.stop_flag.write_text(f"trial {number} failed, and failures.policy is fail_fast\n")
    return outcome


def _same_data(folder: StudyFolder, study: Any, found: str) -> None:
    """Raise UserError if data or model have changed since the study's first trial: its numbers would not compare."""
    with folder.lock():
        first = study.user_attrs.get(DATA)
        if first is None:
            study.set_user_attr(DATA, found)
        elif first != found:
            raise UserError(
                f"data or model have changed since the study began (SHA-256 {found[:12]}, was {first[:12]}); restore "
                "them, for example by `dvc checkout`, or launch a new study"
            )


def _log_path() -> str:
    """The file that this process prints to, if it is one."""
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:
        return ""
    return path if path.startswith("/") and os.path.isfile(path) else ""
