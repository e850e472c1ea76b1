"""Taking trials: exact totals, whatever a worker before was cut off in."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace

import optuna
import pytest
from optuna.trial import TrialState

from studies import claims
from studies.claims import Claim, Nothing, carry_over, claim, spent, trials_left
from studies.folder import Study, StudyFolder
from studies.lease import Hold, Identity, Watch, read_lease
from studies.sampling import grid_points
from studies.storage import load_study, open_storage
from studies.workers import new_card
from tests.studies.conftest import toy

ME, OTHER = Identity("a", "job-a", 0, "host"), Identity("b", "job-b", 0, "host")


@pytest.fixture
def world(tmp_path, params):
    """A study of two trials in a fresh folder, and a function that claims."""
    return make_world(tmp_path, params, toy(budget={"trials": 2}))


def make_world(path, params, definition):
    folder = StudyFolder(path)
    storage = str(folder.journal)
    optuna.create_study(study_name=definition.name, storage=open_storage(storage), direction="maximize")
    record = Study(definition, params, {}, storage, "", "", time.time(), {})
    folder.write(record)
    study = load_study(definition.name, storage)
    watch = Watch(grace=1000.0, poll=1.0)
    return study, folder, record, lambda me=ME, **options: claim(study, folder, record, me, watch, **options)


def test_each_trial_is_given_once_and_no_more_than_there_are(world):
    _, _, _, take = world
    first, second = take(), take(OTHER)
    assert [found.trial.number for found in (first, second)] == [0, 1]
    assert isinstance(take(Identity("c", "job-c", 0, "host")), Nothing)


def test_a_trial_whose_worker_was_cut_off_before_the_lease_is_taken_up_with_all_its_keys(world):
    study, _, record, take = world
    study.ask()  # and dead
    found = take()
    assert found.trial.number == 0
    assert found.settings.keys() == record.definition.space.keys()


def test_a_claim_that_the_storage_cut_off_is_taken_up_by_the_same_worker(world, monkeypatch):
    _, folder, _, take = world
    suggest = claims.suggest

    def away(*arguments):
        raise OSError("away")

    def suggest_until_taken(trial, definition):
        return away() if read_lease(folder.lease(0)) else suggest(trial, definition)

    monkeypatch.setattr(claims, "suggest", suggest_until_taken)
    with pytest.raises(OSError, match="away"):
        take()
    monkeypatch.undo()
    found = take()
    assert (found.trial.number, found.lease.losses) == (0, 0)
    assert isinstance(take(OTHER), Claim)


def test_a_put_down_trial_comes_before_a_new_one(world):
    _, folder, _, take = world
    first = take()
    with held(folder, first) as hold:
        hold.release()
    again = take(OTHER)
    assert (again.trial.number, again.lease.attempt, again.lease.losses) == (0, 2, 0)
    assert again.settings == first.settings


def held(folder, found):

    return Hold(folder.lease(found.trial.number), found.lease, beat=60.0)


def test_a_later_start_of_the_same_job_takes_its_trial_at_once_and_an_earlier_one_does_not(world):
    _, _, _, take = world
    take(ME)
    assert take(Identity("a2", "job-a", 0, "host")).trial.number == 1  # a copy: shares the work
    assert take(Identity("a3", "job-a", 1, "host")).trial.number == 0


def test_a_worker_that_may_begin_no_more_still_takes_over(world):
    study, folder, _, take = world
    found = take(OTHER)
    with held(folder, found) as hold:
        hold.release()
    assert take(may_begin=False).trial.number == 0
    study.tell(0, 1.0)
    assert isinstance(take(may_begin=False), Nothing)


def test_who_would_leave_waits_until_the_others_are_seen_to_live(world):
    _, _, _, take = world
    take(OTHER)
    take(Identity("c", "job-c", 0, "host"))
    assert take().wait


def test_trials_that_are_left_are_counted_with_what_is_queued(world):
    study, folder, record, take = world
    assert trials_left(record, folder, study) == 2
    found = take()
    study.tell(found.trial.number, state=TrialState.FAIL)
    study.enqueue_trial(found.settings, user_attrs={claims.RETRY_OF: 0})
    assert trials_left(record, folder, study) == 2


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"trials": 9, "gpu_hours": 2.0}, "the 2.0 GPU-hours are spent"),
        ({"trials": 9, "hours": 0.5}, "the 0.5 hours since the launch are over"),
        ({"trials": 9, "gpu_hours": 2.5, "hours": 2.0}, None),
    ],
)
def test_a_study_ends_at_whichever_budget_is_spent_first(tmp_path, params, budget, message):
    study, folder, record, _ = make_world(tmp_path, params, toy(budget=budget))
    hour_ago = replace(record, launched_at=time.time() - 3600)
    folder.workers.mkdir()
    # Two workers of two GPUs each, half an hour: 2 GPU-hours, one of them killed without a last word.
    for name, ended in (("a", "done"), ("b", None)):
        card = replace(new_card(name, "job", "host", 2, ""), seconds=1800.0, ended=ended)
        folder.worker(name).write_text(json.dumps(asdict(card)))
    assert spent(hour_ago, folder, study.get_trials()) == message


def test_a_grids_points_come_once_each(tmp_path, params):

    space = {"grpo.num_iterations": {"choices": [1, 2]}, "grpo.scale_rewards": {"choices": ["group", "batch", "none"]}}
    definition = toy(space=space, sampler={"name": "grid"}, budget={"trials": 6})
    study, _, _, take = make_world(tmp_path, params, definition)
    for point in grid_points(definition):
        study.enqueue_trial(point)
    drawn = []
    for _ in range(6):
        found = take()
        study.tell(found.trial.number, 0.0)
        drawn.append(tuple(found.settings.values()))
    assert len(set(drawn)) == 6
    assert isinstance(take(), Nothing)


def test_an_attempt_begins_with_all_that_the_last_one_had(tmp_path):
    folder = StudyFolder(tmp_path)
    run = folder.run(3, 1, 7)
    (run / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint-4" / "weights").write_text("w")
    (run / "metrics.jsonl").write_text('{"step": 4}\n')
    left = folder.trial(3) / f".attempt-2.{os.getpid() + 1}"
    left.mkdir()  # by a worker that was cut off in the middle of this
    assert carry_over(folder, 3, 2) == folder.attempt(3, 2)
    copied = folder.run(3, 2, 7)
    assert (copied / "checkpoints" / "checkpoint-4" / "weights").read_text() == "w"
    assert (copied / "metrics.jsonl").read_text() == '{"step": 4}\n'
    assert not left.exists()
    assert folder.newest_run(3, 7) == copied
    # An attempt that died before it had a folder is passed over.
    assert carry_over(folder, 3, 4).joinpath("seed-7", "metrics.jsonl").exists()
