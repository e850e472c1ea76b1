"""One trial: its seeds advance stage by stage, their mean is reported, its end is told; all as the lease's owner."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from grip_core.config import Params
from grip_core.errors import ProcessLost
from studies.claims import Claim, carry_over
from studies.disk import check_disk
from studies.failures import PROVENANCE, TrialTimeout, describe, tell_failure
from studies.folder import Study, StudyFolder
from studies.lease import Hold, LeaseLost
from studies.provenance import of_trial
from studies.space import trial_params
from studies.storage import StorageAway, ride_out
from studies.trainable import Stage, Trainable, stages

Outcome = Literal["complete", "pruned", "failed", "crashed", "paused", "lost"]
"""What became of a trial here; "crashed" is a failure by an exception that is none of the expected kinds."""
METRICS = "metrics"
"""Attribute of a finished trial: all its metrics at the end, averaged over its seeds."""
HANGS = 120.0
"""Seconds beyond its time after which a trial that has not noticed counts as hung."""


@dataclass(frozen=True)
class Context:
    """What a worker works with, whatever the trial."""

    study: optuna.Study
    folder: StudyFolder
    record: Study
    trainable: Trainable
    provenance: dict[str, Any]
    log: str
    stopping: Callable[[], bool]
    """Whether this worker is to put its trial down."""
    deserted: Callable[[], bool]
    """Whether another process of this worker has ended."""


def run_trial(context: Context, claim: Claim) -> Outcome:
    """Work on a trial until it ends, is put down, or is lost to another worker.

    Raises UserError if the trial's folder cannot be written or a process that it needs has gone, and StorageAway: the
    fault is not the trial's, which is left for another worker to take over.
    """
    definition, number = context.record.definition, claim.trial.number
    minutes = definition.failures.trial_minutes
    limit = None if minutes is None else 60 * minutes + HANGS
    with Hold(context.folder.lease(number), claim.lease, definition.lease.beat, limit) as hold:
        try:
            carry_over(context.folder, number, claim.lease.attempt)
            return _run_stages(context, claim, hold)
        except LeaseLost:
            return "lost"
        except Exception as error:  # whatever a trial fails of is kept on it
            away = isinstance(error, StorageAway | ProcessLost)
            if not away and not context.deserted():
                return _fail(context, claim, hold, error)
            with contextlib.suppress(LeaseLost, OSError):
                hold.release()  # what was done is safe in files
            if away:
                raise
            raise ProcessLost(f"a process of this worker has ended ({error}); see the logs beside its own") from None


def _fail(context: Context, claim: Claim, hold: Hold, error: Exception) -> Outcome:
    number = claim.trial.number
    check_disk(error, context.folder.trial(number))
    failure = describe(error, context.log, claim.lease.attempt, context.provenance["host"])

    def tell() -> None:
        with hold.owned():
            tell_failure(context.study, claim.trial._trial_id, failure, _provenance(context, claim, hold))

    try:
        ride_out(f"telling that trial {number} failed", tell, context.stopping)
    except LeaseLost:
        return "lost"  # what it failed of may be that another worker has its trial
    return "crashed" if failure.cause.startswith("exception") else "failed"


def _run_stages(context: Context, claim: Claim, hold: Hold) -> Outcome:
    definition = context.record.definition
    params = trial_params(definition, context.record.params, claim.settings)
    limit = definition.failures.trial_minutes

    def pause() -> bool:
        if limit is not None and hold.seconds > limit * 60:
            raise TrialTimeout(f"the trial took longer than failures.trial_minutes = {limit}")
        return hold.lost.is_set() or context.stopping()

    finals: dict[int, dict[str, float]] = {}
    plan = stages(definition, params)
    for place, stage in enumerate(plan):
        now = _advance(context, claim, params, stage, pause)
        if now is None:
            hold.release()
            return "paused"
        hold.reach(place + 1)
        finals |= now
        # At its end a trial is paid for: to prune it there would only hide its value.
        if definition.pruner.name != "none" and _report(context, claim, hold, stage, now) and stage is not plan[-1]:
            return _tell(context, claim, hold, finals, TrialState.PRUNED)
    return _tell(context, claim, hold, finals, TrialState.COMPLETE)


def _advance(
    context: Context, claim: Claim, params: Params, stage: Stage, pause: Callable[[], bool]
) -> dict[int, dict[str, float]] | None:
    """The metrics of each of the stage's seeds at its step; None if the trial was put down before."""
    found: dict[int, dict[str, float]] = {}
    for seed in stage.seeds:
        folder = context.folder.run(claim.trial.number, claim.lease.attempt, seed)
        metrics = context.trainable.advance(params, seed, stage.step, folder, pause)
        if metrics is None:
            if not pause():
                raise RuntimeError(f"advance gave no metrics for step {stage.step}, and was not to pause; see {folder}")
            return None
        found[seed] = metrics
    return found


def mean_metrics(by_seed: dict[int, dict[str, float]]) -> dict[str, float]:
    """Every metric that all seeds have, averaged over them."""
    rows = list(by_seed.values())
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: fmean(row[name] for row in rows) for name in names}


def _value(metrics: dict[str, float], name: str) -> float:
    if name not in metrics:
        raise KeyError(f"there is no metric {name!r} at this step; there are {', '.join(sorted(metrics))}")
    return metrics[name]


def _report(context: Context, claim: Claim, hold: Hold, stage: Stage, now: dict[int, dict[str, float]]) -> bool:
    """Report the stage's mean; whether the pruner has seen enough."""
    value = _value(mean_metrics(now), context.record.definition.objectives[0].metric)

    def report() -> bool:
        with hold.owned():
            values = context.study._storage.get_trial(claim.trial._trial_id).intermediate_values
            if stage.reported_at not in values:  # an attempt before this one may have got here
                claim.trial.report(value, stage.reported_at)
            return claim.trial.should_prune()

    return ride_out(f"reporting trial {claim.trial.number}", report, context.stopping)


def _provenance(context: Context, claim: Claim, hold: Hold) -> dict[str, Any]:
    trial = of_trial(context.record, claim.settings, hold.seconds)
    return {**context.provenance, **trial, "attempts": claim.lease.attempt, "losses": claim.lease.losses}


def _tell(
    context: Context, claim: Claim, hold: Hold, finals: dict[int, dict[str, float]], state: TrialState
) -> Outcome:
    definition, trial = context.record.definition, claim.trial
    metrics = mean_metrics(finals)
    values = [_value(metrics, objective.metric) for objective in definition.objectives]
    constraints = {item.metric: _value(metrics, item.metric) - item.at_most for item in definition.constraints}
    provenance = _provenance(context, claim, hold)

    def tell() -> None:
        with hold.owned():
            if context.study._storage.get_trial(trial._trial_id).state.is_finished():
                return  # told before the storage went away
            for name, value in constraints.items():
                trial.set_constraint(name, value)
            trial.set_user_attr(METRICS, metrics)
            trial.set_user_attr(PROVENANCE, provenance)
            told = values if state == TrialState.COMPLETE else None
            context.study.tell(trial.number, told, state=state, skip_if_finished=True)

    ride_out(f"telling the end of trial {trial.number}", tell, context.stopping)
    for attempt in range(1, claim.lease.attempt):  # the last one has all that was in them
        shutil.rmtree(context.folder.attempt(trial.number, attempt), ignore_errors=True)
    return "complete" if state == TrialState.COMPLETE else "pruned"
