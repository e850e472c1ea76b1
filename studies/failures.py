"""What went wrong with a trial, kept on the trial."""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

FAILURE, PROVENANCE = "failure", "provenance"
"""Attributes of a trial: of a failed one a Failure's fields, of every one where its numbers come from."""


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


TOGETHER = ("nan", "time-out")
"""Causes that all processes of a worker learn of at the same place. After others one may wait where no one else is."""


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
