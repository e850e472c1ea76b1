"""What went wrong with a trial, kept on the trial."""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from grip_core.errors import UserError
from grip_core.files import write_text

FAILURE, PROVENANCE = "failure", "provenance"
"""Attributes of a trial: of a failed one a Failure's fields, of every one where its numbers come from."""
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors that are the file system's fault, whatever a trial does."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed, and where to read on."""

    cause: str
    """ "nan", "out of memory", "time-out", "lost node", "lost", or "exception: <its type>"."""
    message: str
    traceback: str
    log: str
    attempt: int
    host: str


class TrialTimeout(Exception):
    """The trial has had the time that the definition allows."""


def cause_of(error: BaseException) -> str:
    """The kind of failure that an exception is."""
    if isinstance(error, FloatingPointError):
        return "nan"
    # torch's own class for a GPU's memory is no MemoryError, and torch is not imported for its name.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory"
    if isinstance(error, TrialTimeout):
        return "time-out"
    return f"exception: {type(error).__name__}"


def describe(error: BaseException, log: str, attempt: int, host: str) -> Failure:
    """A failure from the exception that a trial ended with."""
    text = "".join(traceback.format_exception(error))
    return Failure(cause_of(error), f"{error}" or type(error).__name__, text, log, attempt, host)


def tell_failure(
    study: optuna.Study, trial_id: int, failure: Failure, provenance: dict[str, Any] | None = None
) -> None:
    """Finish a trial as failed, with the reason. May be done twice."""
    try:
        study._storage.set_trial_user_attr(trial_id, FAILURE, asdict(failure))
        if provenance is not None:
            study._storage.set_trial_user_attr(trial_id, PROVENANCE, provenance)
    except UpdateFinishedTrialError:
        return
    number = study._storage.get_trial_number_from_id(trial_id)
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def failure_of(trial: optuna.trial.FrozenTrial) -> dict[str, Any] | None:
    """What is known of a failed trial; None if it did not fail."""
    if trial.state != TrialState.FAIL:
        return None
    unknown = Failure("unknown", "nothing was written down", "", "", 0, "")
    return trial.user_attrs.get(FAILURE, asdict(unknown))


def check_disk(error: BaseException, folder: Path) -> None:
    """Raise UserError if an error was the disk's, not the trial's: by its number, or because nothing can be written."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in DISK:
            raise _disk_error(folder, found) from error
        found = found.__cause__ or found.__context__
    path = folder / f".writable-{os.getpid()}"
    try:
        write_text(path, " " * 65536)
        path.unlink()
    except OSError as failed:
        raise _disk_error(folder, failed) from error


def _disk_error(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder} must be writable, but: {error.strerror}; put that right, then `python -m studies resume` goes on "
        "from the last checkpoints"
    )
