"""A worker: loads the model once, then takes trials until the budget is spent. An element of a submitit array."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.helpers import DelayedSubmission

from grip_core.errors import UserError
from studies.claims import Claim, claim, identify
from studies.folder import StudyFolder
from studies.lease import Identity, Watch, read_lease
from studies.profile import Profile
from studies.provenance import digest, of_worker
from studies.sampling import make_pruner, quiet_optuna
from studies.storage import load_study, ride_out
from studies.trainable import load_trainable
from studies.trial import Context, Outcome, run_trial
from studies.workers import Reporter, new_card

logger = logging.getLogger(__name__)
DATA = "data_sha256"
"""Attribute of a study: the hash of what its first worker opened."""


class Worker:
    """What is pickled and sent: a callable of submitit's, which calls `checkpoint` when it requeues the job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> str:
        """Work; why it ended. Raises UserError if the study cannot be worked on at all."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        quiet_optuna()
        interrupt = Interrupt()
        reason = work(StudyFolder(self.folder), lambda: interrupt.signal is not None)
        interrupt.pass_on()
        return reason

    def checkpoint(self) -> DelayedSubmission:
        """For submitit: a requeued job does the same again; everything else lies in the study's folder."""
        return DelayedSubmission(self)


class Interrupt:
    """Turns the scheduler's signal into a flag; whoever sent it is answered once everything is safe.

    submitit would call `checkpoint` inside the handler, perhaps in the middle of an optimizer step.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        for number in (signal.SIGUSR2, *(() if "SLURM_JOB_ID" in os.environ else (signal.SIGINT, signal.SIGTERM))):
            self._before[number] = signal.signal(number, self._set)

    def pass_on(self) -> None:
        """Let the handler that was there before do its work, if there was a signal: requeue the job and exit."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.signal == signal.SIGUSR2 and callable(handler := self._before[signal.SIGUSR2]):
            handler(self.signal, None)

    def _set(self, number: int, frame: FrameType | None) -> None:
        logger.info("%s: going to stop at the next safe boundary", signal.Signals(number).name)
        self.signal = number


def work(folder: StudyFolder, interrupted: Callable[[], bool]) -> str:
    """Take trials until there are none; why it ended."""
    record = folder.read()
    me = identify()
    log = _log_path()
    lease = record.definition.lease
    reporter = Reporter(
        folder.worker(me.worker), new_card(me.worker, me.job, me.host, Profile(**record.profile).gpus, log), lease.beat
    )
    reason = "it failed; see its log"
    try:
        trainable = load_trainable(record.definition.trainable)(record.params)
        study = ride_out("opening the study", lambda: load_study(record.definition.name, record.storage))
        study.pruner = make_pruner(record.definition)
        ride_out("comparing the data", lambda: _same_data(folder, study, digest(trainable.fingerprint)))
        context = Context(
            study=study,
            folder=folder,
            record=record,
            trainable=trainable,
            provenance=of_worker(trainable.fingerprint, me.job),
            log=log,
            stopping=lambda: interrupted() or folder.stop_flag.exists(),
        )
        reporter.loaded()
        reason = _take_trials(context, me, reporter, interrupted)
    finally:
        reporter.close(reason)
    logger.info("worker ends: %s", reason)
    return reason


def _take_trials(context: Context, me: Identity, reporter: Reporter, interrupted: Callable[[], bool]) -> str:
    folder, definition = context.folder, context.record.definition
    poll = definition.lease.beat / 2
    watch = Watch(definition.lease.grace, poll)
    done = 0
    while not interrupted():
        if done == definition.trials_per_job:
            return f"it has done its {done} trials"
        # Read anew each time: the budget may have grown.
        found = ride_out("taking a trial", lambda: claim(context.study, folder, folder.read(), me, watch))
        if isinstance(found, Claim):
            outcome = _one_trial(context, found, reporter)
            done += 1
            if outcome == "lost" and superseded(folder, found.trial.number, me):
                return "SLURM has started its job again elsewhere"
        elif found.wait:
            time.sleep(poll)
        else:
            return found.reason
    return "it was interrupted"


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
    if outcome == "failed" and context.record.definition.failures.policy == "fail_fast":
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
