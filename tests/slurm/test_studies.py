"""Studies on a real SLURM, disturbed in every way that a cluster knows: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from studies.failures import failure_of
from studies.jobs import active, cancel
from studies.profile import Profile
from studies.slurm import fate
from studies.status import gather, share_in_trials
from studies.workers import Card
from tests.slurm.conftest import DevCluster, Postgres
from tests.studies import tiny
from tests.studies.conftest import ROOT
from tests.studies.harness import Launched, launched, wait_until
from tests.studies.test_training import TINY, check_equal

pytestmark = pytest.mark.slurm

# All of a node's cores, so that every worker has a node to itself.
PROFILE = Profile(cluster="slurm", workers=3, gpus=1, cpus=8, minutes=60, signal_seconds=30)
STEADY = {
    "space": {"grpo.learning_rate": {"low": 0.001, "high": 0.9, "log": True}},
    "params": {"grpo.beta": 0.4},  # seconds a step: 8 a trial
    "lease": {"beat": 0.5, "grace": 4.0},
}
LONG = {"params": {"grpo.beta": 1.2}, "budget": {"trials": 3}}  # 24 s a trial, one for every worker
# One trial: two that train would take each other's processors.
REAL = TINY | {"space": {"grpo.num_iterations": {"choices": [2]}}, "budget": {"trials": 1}}
BOTH = pytest.mark.parametrize("storage", ["journal", "postgresql"], indirect=True)
"""For what the storage has a part in: its speed, workers that take up what others left in it, what failures say."""


@pytest.fixture
def storage(request) -> str | None:
    """A journal unless a test asks for another kind."""
    kind = getattr(request, "param", "journal")
    return None if kind == "journal" else request.getfixturevalue("postgres").url()


@pytest.fixture
def start(cluster, storage, tmp_path, monkeypatch) -> Iterator:
    """Launch a study on the cluster."""
    monkeypatch.chdir(ROOT)
    started: list[Launched] = []

    def begin(profile: Profile = PROFILE, **changes) -> Launched:
        started.append(launched(tmp_path, profile, storage, **STEADY | changes))
        return started[-1]

    yield begin
    for study in started:
        cancel(study.folder)


def node_of(cluster: DevCluster, job: str) -> str:
    """The node that a job runs on."""
    return cluster.run("squeue", "--noheader", "--format=%N", f"--jobs={job.removeprefix('slurm-')}").strip()


def all_at_work(study: Launched) -> list[Card]:
    """Every worker, once each has a trial."""

    def found() -> list[Card]:
        cards = [card for card in study.cards() if card.trial is not None]
        return cards if len(cards) == PROFILE.workers else []

    return wait_until(found, 60, "every worker has a trial")


@BOTH
def test_a_heavy_tailed_study_keeps_its_workers_busy(start, capsys):
    """24 trials, of 2.5 to some 25 s; with a barrier after every four, most workers would wait for the longest."""
    lengths = 2.5 * (1 - (np.arange(24) + 0.5) / 24) ** -0.6
    choices = [round(float(length) / 10, 4) for length in lengths]
    study = start(
        PROFILE.model_copy(update={"workers": 4}),
        space={"grpo.beta": {"choices": choices}},
        params={},
        seeds=[1],
        sampler={"name": "grid"},
        budget={"trials": 24},
    )
    study.wait(240)
    trials = study.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 24
    assert sorted(trial.params["grpo.beta"] for trial in trials) == sorted(choices)  # none twice
    assert all(study.lease(trial.number).attempt == 1 for trial in trials)
    assert len({card.job for card in study.cards()}) == 4
    took = np.array([trial.params["grpo.beta"] * 10 for trial in trials]).reshape(-1, 4)
    barrier = took.sum() / (4 * took.max(axis=1).sum())
    share = share_in_trials(study.cards())
    with capsys.disabled():
        print(f"\nshare of worker time in trials: {share:.3f}; with a barrier after every four: {barrier:.3f}")
    assert share >= 0.95 > barrier


@BOTH
def test_a_killed_worker(start):
    study = start()
    card = study.busy(steps=5)
    os.kill(card.pid, signal.SIGKILL)
    study.wait()
    study.check()
    assert (study.lease(card.trial).attempt, study.lease(card.trial).losses) == (2, 1)


def test_the_last_worker_killed_when_nobody_is_left_to_see_it(start):
    study = start(PROFILE.model_copy(update={"workers": 1}), params={"grpo.beta": 0.2}, budget={"trials": 1})
    card = study.busy(steps=3)
    os.kill(card.pid, signal.SIGKILL)
    study.wait()  # without a resume
    study.check()
    assert len({card.job for card in study.cards()}) == 2


def test_a_killed_slurmd_whose_worker_lives_on(start, cluster):
    """SLURM requeues the job while the old process still computes: two copies, of which one counts."""
    study = start(params={"grpo.beta": 2.5}, budget={"trials": 3})  # 50 s a trial: SLURM misses a node after some 20
    card = study.busy(steps=2)
    node = node_of(cluster, card.job)
    cluster.kill_node(node)
    wait_until(lambda: study.lease(card.trial).attempt == 2, 60, "the requeued job takes its trial up")
    study.wait(240)
    study.check()
    cluster.start_node(node)


def test_a_node_that_fails_with_its_jobs(start, cluster):
    study = start()
    card = study.busy(steps=3)
    node = node_of(cluster, card.job)
    cluster.kill_node(node, jobs=True)
    study.wait(240)
    study.check()
    assert study.lease(card.trial).attempt == 2
    assert fate(card.job) == "lost node"
    cluster.start_node(node)


def test_a_node_that_is_set_down(start, cluster):
    study = start()
    card = study.busy(steps=3)
    node = node_of(cluster, card.job)
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        study.wait(240)
    finally:
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    study.check()
    assert study.lease(card.trial).attempt == 2


def test_pre_emption_by_a_higher_partition(start, cluster):
    study = start(**LONG)  # SLURM may take some seconds before it acts
    card = study.busy(steps=3)
    node = node_of(cluster, card.job)
    urgent = cluster.submit("-p", "urgent", "-w", node, "-c", "8", "--wrap", "sleep 3")
    study.wait(240)
    study.check()
    lease = study.lease(card.trial)
    assert (lease.attempt, lease.losses) == (2, 0)  # put down in time, not lost
    wait_until(lambda: cluster.states(urgent) == ["COMPLETED"], 60, "the urgent job has run")


def test_a_time_limit(start):
    """One trial, longer than a job may be: it goes on in the same job, requeued, at its step.

    SLURM looks at time limits every 30 s, and warns up to 30 s before it was asked to: here 10 to 40 s after the start.
    Sooner, and the worker might not listen yet; later, and the trial, of 44 s, might have ended.
    """
    profile = PROFILE.model_copy(update={"workers": 1, "minutes": 1, "signal_seconds": 20})
    study = start(profile, params={"grpo.beta": 2.2}, budget={"trials": 1})
    study.wait(240)
    study.check()
    cards = study.cards()
    assert len(cards) >= 2
    assert len({card.job for card in cards}) == 1
    assert study.lease(0).losses == 0


@BOTH
def test_the_whole_array_cancelled_and_resumed(start, cluster):
    study = start()
    study.busy(steps=3)
    cancel(study.folder)
    wait_until(lambda: not active(study.folder), 60, "the array is gone")
    open_trials = [trial.number for trial in study.trials() if trial.state == TrialState.RUNNING]
    assert open_trials
    wait_until(lambda: all(study.lease(number).released for number in open_trials), 30, "they are put down in time")
    study.resume()
    study.resume()  # safe to do twice
    assert len(active(study.folder)) == PROFILE.workers
    study.wait()
    study.check()


def test_a_requeue_without_a_signal(start, cluster):
    study = start()
    card = study.busy(steps=3)
    cluster.run("scontrol", "requeue", card.job.removeprefix("slurm-"))
    study.wait(240)
    study.check()
    assert study.lease(card.trial).attempt == 2


def test_a_controller_that_is_killed_and_restarted(start, cluster):
    """It had saved its jobs, which ran on meanwhile: no trial notices."""
    study = start(**LONG)
    all_at_work(study)
    cluster.saved()
    cluster.kill_controller()
    status = gather(study.folder)  # says so instead of hanging
    assert isinstance(status.jobs, str)
    cluster.start_controller()
    study.wait(240)
    study.check()
    assert [study.lease(trial.number).attempt for trial in study.trials()] == [1, 1, 1]


def test_a_controller_that_has_forgotten_the_jobs(start, cluster):
    """It was killed before it saved them, kills them as nobody's, and gives their ids to others; `resume` sends new."""
    before = cluster.saved()
    study = start(**LONG)
    workers = all_at_work(study)
    cluster.kill_controller()
    cluster.forget_since(before)
    cluster.start_controller()
    # SLURM holds back a job whose id still runs on its node.
    wait_until(lambda: not cluster.has_steps(), 60, "they are killed")
    stranger = cluster.submit("--wrap=sleep 1000")
    assert {card.job.split("_")[0] for card in workers} == {f"slurm-{stranger}"}
    status = gather(study.folder)
    assert status.jobs == {}
    assert [trial.number for trial in status.running] == [0, 1, 2]
    study.resume()
    assert len(active(study.folder)) == PROFILE.workers
    study.wait(240)
    study.check()
    assert [(lease.attempt, lease.losses) for lease in map(study.lease, range(3))] == [(2, 1)] * 3
    cancel(study.folder)
    assert cluster.run("squeue", "--noheader", "--format=%T", f"--jobs={stranger}").strip() == "RUNNING"


def test_real_training_that_is_pre_empted(start, cluster, tmp_path, monkeypatch):
    study = start(**REAL)
    card = study.busy(steps=6)
    cluster.submit("-p", "urgent", "-w", node_of(cluster, card.job), "-c", "8", "--wrap", "sleep 3")
    study.wait(300)
    lease = study.lease(card.trial)
    assert (lease.attempt, lease.losses) == (2, 0)
    monkeypatch.setattr(tiny, "STEP_SECONDS", 0.0)  # nobody disturbs what it is compared with
    check_equal(study, tmp_path / "whole")


@pytest.mark.parametrize(
    ("restarts", "storage"), [("0", "journal"), ("1", "journal"), ("1", "postgresql")], indirect=["storage"]
)
def test_two_copies_of_one_job(start, restarts):
    """Of the same start they share the work; a later start takes over, and the one before sees it and ends."""
    study = start(**LONG) if restarts == "1" else start()  # the copy must come while the trial still runs
    card = study.busy(steps=3)
    array, task = card.job.removeprefix("slurm-").split("_")
    variables = {**os.environ, "SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": task}
    variables["SLURM_RESTART_COUNT"] = restarts
    command = [sys.executable, "-m", "studies", "work", str(study.folder.path)]
    copy = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert copy.returncode == 0, copy.stderr
    study.wait(240)
    study.check()
    assert study.lease(card.trial).attempt == 1 + int(restarts)
    assert ("started its job again elsewhere" in Path(card.log).read_text()) == (restarts == "1")


@BOTH
def test_a_loss_that_is_not_a_number(start):
    space = {"grpo.epsilon": {"choices": [0.2, 0.5]}, "grpo.learning_rate": {"choices": [0.1, 0.2]}}
    study = start(space=space, sampler={"name": "grid"}, params={"grpo.beta": 0.05}, budget={"trials": 4})
    study.wait()
    failed = [trial for trial in study.trials() if trial.state == TrialState.FAIL]
    assert len(failed) == 2
    for trial in failed:
        assert trial.params["grpo.epsilon"] == 0.5
        assert failure_of(trial)["cause"] == "nan"
        assert "FloatingPointError" in failure_of(trial)["traceback"]
        assert Path(failure_of(trial)["log"]).exists()
    assert [trial.state for trial in study.trials()].count(TrialState.COMPLETE) == 2


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_a_database_that_restarts(start, postgres: Postgres):
    study = start(pruner={"name": "hyperband"}, params={"grpo.beta": 0.2})
    study.busy(steps=3)
    postgres.stop()
    wait_until(lambda: any("the storage is away" in text for text in logs(study)), 60, "a worker misses it")
    postgres.start()
    study.wait(240)
    for trial in study.trials():
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        assert study.lease(trial.number).attempt == 1
        if trial.state == TrialState.COMPLETE:
            assert trial.value == pytest.approx(study.expected(trial))


@pytest.mark.parametrize("kind", ["walks", "training"])
def test_a_full_run_folder(start, tmp_path, monkeypatch, kind):
    """Workers end with a clear error, trials wait, and all goes on once there is room."""
    trials = tmp_path / "toy" / "trials"
    trials.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(trials)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        study = start(**REAL) if kind == "training" else start()
        study.busy(steps=3)
        fill = trials / "fill"
        subprocess.run(["dd", "if=/dev/zero", f"of={fill}"], stderr=subprocess.DEVNULL, check=False)
        wait_until(lambda: not active(study.folder), 120, "the workers give up")
        assert any("No space left on device" in text for text in logs(study))
        assert not [trial for trial in study.trials() if trial.state == TrialState.FAIL]
        fill.unlink()
        study.resume()
        study.wait(240)
        monkeypatch.setattr(tiny, "STEP_SECONDS", 0.0)  # nobody disturbs what it is compared with
        check_equal(study, tmp_path / "whole") if kind == "training" else study.check()
    finally:
        cancel(study.folder)
        subprocess.run(["umount", "--lazy", str(trials)], check=True)


def test_a_read_only_run_folder(start, tmp_path):
    trials = tmp_path / "toy" / "trials"
    trials.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(trials)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        study = start()
        study.busy(steps=3)
        wait_until(
            lambda: not subprocess.run(["mount", "-o", "remount,ro", str(trials)], check=False).returncode,
            60,
            "remount",
        )
        wait_until(lambda: not active(study.folder), 120, "the workers give up")
        assert any("Read-only file system" in text for text in logs(study))
        subprocess.run(["mount", "-o", "remount,rw", str(trials)], check=True)
        study.resume()
        study.wait(240)
        study.check()
    finally:
        cancel(study.folder)
        subprocess.run(["umount", "--lazy", str(trials)], check=True)


def logs(study: Launched) -> list[str]:
    return [path.read_text() for path in study.folder.logs.glob("*") if path.suffix in (".err", ".out", ".log")]
