"""Failed trials once more."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from grip_core.errors import UserError
from studies.claims import RETRY_OF
from studies.failures import failure_of
from studies.folder import StudyFolder
from studies.storage import load_study


def retry(folder: StudyFolder, where: str) -> list[int]:
    """Queue the failed trials that `where` names ("all", a cause, or numbers), each once; their numbers.

    They keep their place in the count: a repeat is not a new trial of the budget. Raises UserError if `where` names
    none.
    """
    record = folder.read()
    study = load_study(record.definition.name, record.storage)
    with folder.lock():
        trials = study.get_trials(deepcopy=False)
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        chosen = [trial for trial in failed if _named(trial, where)]
        if not chosen:
            causes = sorted({str((failure_of(trial) or {}).get("cause")) for trial in failed})
            raise UserError(
                f"--where must be all, a cause ({', '.join(causes) or 'no trial has failed'}) or numbers of failed "
                f"trials, but got {where}"
            )
        repeated = {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
        queued = [trial for trial in chosen if trial.number not in repeated]
        for trial in queued:
            study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
    return [trial.number for trial in queued]


def _named(trial: FrozenTrial, where: str) -> bool:
    if where == "all":
        return True
    if all(part.strip().isdigit() for part in where.split(",")):
        return trial.number in {int(part) for part in where.split(",")}
    return (failure_of(trial) or {}).get("cause") == where
