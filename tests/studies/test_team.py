"""Workers of one job that share a VLM: each is a worker like any other, and what ends the job ends all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from grip_core.errors import UserError
from studies.folder import StudyFolder
from studies.jobs import active, cancel
from studies.launch import jobs_wanted, launch
from studies.preview import cost
from studies.profile import Profile
from studies.show import render_arrays
from studies.status import gather, share_in_trials
from studies.workers import Card, members, spent_gpu_hours
from tests.studies.conftest import ROOT, toy
from tests.studies.harness import Launched, launched, wait_until
from tests.studies.test_training import TINY, check_equal

SHARED = Profile(cluster="local", workers=1, runs_per_vlm=2, gpus=2)
WALKS = {"trainable": "tests.studies.toys:SharedWalk", "params": {"grpo.beta": 0.1}}
CARD = Card("a", "slurm-7_1", "node", 1, 2, "log", 1000.0, seconds=1800.0)


def write(folder: StudyFolder, *cards: Card) -> None:
    folder.workers.mkdir()
    for card in cards:
        folder.worker(card.worker).write_text(json.dumps(asdict(card)))


def test_the_gpus_of_a_job_count_once(tmp_path):
    """Two workers from 1000 to 2800 and from 1600 to 4600, on the same two GPUs: 7200 GPU-seconds."""
    folder = StudyFolder(tmp_path)
    first, second = replace(CARD, team="t"), replace(CARD, worker="b", team="t", started=1600.0, seconds=3000.0)
    alone = replace(CARD, worker="c", job="slurm-7_2")
    write(folder, first, second, alone)
    assert spent_gpu_hours(folder) == pytest.approx((2 * 3600 + 2 * 1800) / 3600)


def test_a_job_shows_the_workers_of_its_newest_start():
    before = [replace(CARD, worker=name, team="t") for name in "ab"]
    now = [replace(CARD, worker=name, team="u", started=9000.0) for name in "cd"]
    other = replace(CARD, worker="e", job="slurm-7_12", started=9999.0)
    local = replace(CARD, worker="f", job="local-node-3-7_1")
    assert members([*before, *now, other], "7_1") == now
    assert members([CARD, replace(CARD, worker="z", started=2000.0)], "7_1") == [
        replace(CARD, worker="z", started=2000.0)
    ]
    assert members([other], "7_1") == []
    assert members([local], "7_1") == [local]


def test_jobs_are_shown_with_what_is_in_them():
    assert render_arrays(2, SHARED) == "2 jobs on this machine, each of 2 workers that share a VLM"
    slurm = SHARED.model_copy(update={"cluster": "slurm"})
    assert render_arrays(3, slurm) == "1 job array of 3 (1 at a time) jobs, each of 2 workers that share a VLM"


@pytest.mark.parametrize(
    ("runs", "each", "trials", "jobs"),
    [
        (1, None, 48, 3),
        (1, None, 2, 2),
        (4, None, 48, 3),
        (4, None, 9, 3),
        (4, None, 8, 2),
        (4, None, 0, 0),
        (1, 2, 9, 5),
        (4, 2, 9, 2),
    ],
)
def test_no_more_jobs_are_sent_than_have_a_trial_for_a_worker(runs, each, trials, jobs):
    profile = SHARED.model_copy(update={"workers": 3, "runs_per_vlm": runs})
    assert jobs_wanted(toy(trials_per_job=each), profile, trials) == jobs


def test_what_a_study_can_cost_counts_gpus_by_job_and_trials_by_worker():
    profile = SHARED.model_copy(update={"workers": 3, "minutes": 90})
    text = cost(toy(budget={"trials": 48, "gpu_hours": 10.0}), profile, 3)
    assert text.startswith("GPU-hours: 6 GPUs for up to 1.5 hours a job")
    assert "but up to 6 still run" in text  # 3 jobs of 2 workers


def test_what_has_nothing_to_share_is_told_before_anything_is_sent(tmp_path, params, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="set runs_per_vlm: 1"):
        launch(tmp_path, toy(), params, SHARED, None, [])
    assert not (tmp_path / "toy" / "jobs.jsonl").exists()


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    started: list[Launched] = []

    def begin(profile: Profile = SHARED, **changes) -> Launched:
        started.append(launched(tmp_path / "studies", profile, **changes))
        return started[-1]

    yield begin
    for study in started:
        cancel(study.folder)


def begin_walks(start) -> tuple[Launched, int, list[Card]]:
    """A study whose two workers are in the middle of their trials; the process of its only job, and their cards."""
    study = start(**WALKS)
    cards = wait_until(lambda: both_in_the_middle(study), 60, "both are in the middle")
    return study, lead_of(study), cards


def both_in_the_middle(study: Launched) -> list[Card] | None:
    cards = [card for card in study.cards() if card.trial is not None and study.steps_done(card.trial) >= 3]
    return cards if len(cards) == 2 else None


def lead_of(study: Launched) -> int:
    (job,) = wait_until(lambda: active(study.folder), 10, "the job is there")
    return int(job)


def server_of(lead: int) -> int:
    """The echo that a job has started."""

    def found() -> list[str]:
        children = Path(f"/proc/{lead}/task/{lead}/children").read_text().split()
        return [pid for pid in children if "tests.studies.toys" in Path(f"/proc/{pid}/cmdline").read_text()]

    return int(wait_until(found, 30, "it has started")[0])


def gone(pid: int) -> bool:
    """Whether a process has ended; nobody here waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_each_worker_takes_trials_of_its_own_and_nothing_is_left_behind(start):
    study, lead, cards = begin_walks(start)
    server = server_of(lead)
    assert members(study.cards(), str(lead)) == study.cards()
    assert len({card.worker for card in cards}) == len({card.log for card in cards}) == 2
    study.wait()
    study.check()
    assert [study.lease(trial.number).attempt for trial in study.trials()] == [1] * 6
    assert {card.ended for card in study.cards()} == {"all 6 trials have begun"}
    longest = max(card.seconds for card in study.cards())
    assert longest <= gather(study.folder).gpu_hours * 3600 / SHARED.gpus < 1.3 * longest
    assert 0.5 < share_in_trials(study.cards()) <= 1
    assert gone(server)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_job_that_is_told_to_go_has_all_its_trials_put_down(start, how):
    study, lead, cards = begin_walks(start)
    os.kill(lead, how)
    study.wait_for_workers()
    assert {card.ended for card in study.cards()} == {"it was interrupted"}
    assert all(study.lease(card.trial).released for card in cards)
    study.resume()
    study.wait()
    study.check()
    assert [(study.lease(card.trial).attempt, study.lease(card.trial).losses) for card in cards] == [(2, 0)] * 2


@pytest.mark.slow
def test_a_killed_worker_leaves_the_other_going_which_takes_its_trial_over(start):
    study, _, (killed, other) = begin_walks(start)
    os.kill(killed.pid, signal.SIGKILL)
    study.wait()
    study.check()
    assert (study.lease(killed.trial).attempt, study.lease(killed.trial).losses) == (2, 1)
    assert study.lease(killed.trial).owner.worker == other.worker
    assert study.lease(other.trial).attempt == 1
    assert "1 of 2 workers failed" in log_of(study)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["server", "lead"])
def test_without_its_server_or_its_job_no_worker_goes_on(start, which):
    """The trials are put down, for anyone to go on with at once, and are not blamed."""
    study, lead, cards = begin_walks(start)
    server = server_of(lead)
    os.kill({"lead": lead, "server": server}[which], signal.SIGKILL)
    wait_until(lambda: all(study.lease(card.trial).released for card in cards), 10, "they are put down")
    wait_until(lambda: all(gone(pid) for pid in (server, lead, *(card.pid for card in cards))), 10, "all have ended")
    assert "error: the echo has gone" in Path(cards[0].log).read_text()
    assert ("the process that holds the VLM ended with code -9" in log_of(study)) == (which == "server")
    study.resume()
    study.wait()
    study.check()
    assert [study.lease(card.trial).losses for card in cards] == [0, 0]


def log_of(study: Launched) -> str:
    """What the study's job has printed."""
    return "".join(path.read_text() for path in study.folder.logs.glob("local-[0-9]*.log"))


@pytest.mark.slow
def test_a_server_that_cannot_start_fails_the_job_at_once(start, tmp_path):
    study = start(**WALKS)
    os.kill(server_of(lead_of(study)), signal.SIGKILL)
    study.wait_for_workers()
    assert "the process that holds the VLM ended with code -9" in log_of(study)


@pytest.mark.slow
def test_no_more_workers_start_than_there_are_trials_and_none_without_one(start):
    study = start(**WALKS | {"budget": {"trials": 1}})
    study.wait()
    study.check()
    assert len(study.cards()) == 1
    before = set(study.folder.logs.iterdir())
    again = [sys.executable, "-m", "studies", "work", str(study.folder.path)]
    found = subprocess.run(again, capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.strip() == "no trial is left"
    assert set(study.folder.logs.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_training_that_shares_a_vlm_has_the_numbers_of_training_alone(start, tmp_path, kill):
    """Both trials at once; or one of them killed in the middle, and taken over by the worker of the other."""
    study = start(**TINY)
    cards = wait_until(lambda: both_in_the_middle(study), 240, "both are in the middle")
    if kill:
        os.kill(cards[0].pid, signal.SIGKILL)
    study.wait(300)
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE"] * 2
    assert [study.lease(card.trial).attempt for card in cards] == [1 + kill, 1]
    assert [study.lease(card.trial).owner.worker == card.worker for card in cards] == [not kill, True]
    check_equal(study, tmp_path / "whole")
