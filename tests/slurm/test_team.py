"""Workers that share a VLM on a real SLURM: what happens to their job happens to all, and it is requeued once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from studies.jobs import cancel
from studies.profile import Profile
from studies.workers import Card, members
from tests.slurm.conftest import DevCluster
from tests.studies.conftest import ROOT
from tests.studies.harness import Launched, launched, wait_until

pytestmark = pytest.mark.slurm
PROFILE = Profile(cluster="slurm", workers=1, runs_per_vlm=2, gpus=1, cpus=8, minutes=60, signal_seconds=30)
STEADY = {
    "trainable": "tests.studies.toys:SharedWalk",
    "space": {"grpo.learning_rate": {"low": 0.001, "high": 0.9, "log": True}},
    "params": {"grpo.beta": 0.5},  # seconds a step: 10 a trial
    "budget": {"trials": 2},
    "lease": {"beat": 0.5, "grace": 600.0},  # so long that only the job's own next start can take a trial over
}


@pytest.fixture
def start(cluster, tmp_path, monkeypatch) -> Iterator:
    """Launch a study on the cluster."""
    monkeypatch.chdir(ROOT)
    started: list[Launched] = []

    def begin(profile: Profile = PROFILE, **changes) -> Launched:
        started.append(launched(tmp_path, profile, **STEADY | changes))
        return started[-1]

    yield begin
    for study in started:
        cancel(study.folder)


def both(study: Launched) -> list[Card]:
    """The cards of a job whose two workers are in the middle of their trials."""

    def found() -> list[Card] | None:
        cards = [card for card in study.cards() if card.trial is not None and study.steps_done(card.trial) >= 3]
        return cards if len(cards) == 2 else None

    return wait_until(found, 90, "both are in the middle")


def check_two_starts(study: Launched, losses: int) -> None:
    """One job, started twice with a server and two workers each, whose trials were taken up once."""
    check_starts(study)
    assert [(study.lease(number).attempt, study.lease(number).losses) for number in range(2)] == [(2, losses)] * 2
    (job,) = {card.job for card in study.cards()}
    newest = members(study.cards(), job.removeprefix("slurm-"))
    assert {study.lease(number).owner.worker for number in range(2)} == {card.worker for card in newest}


def check_starts(study: Launched) -> None:
    """One job, and each of its starts has taken up what the one before had put down."""
    study.check()
    assert len({card.job for card in study.cards()}) == 1
    attempts = [study.lease(number).attempt for number in range(2)]
    assert len({card.team for card in study.cards()}) == max(attempts)
    assert len(study.cards()) == sum(attempts)
    assert min(attempts) >= 2


def node_of(cluster: DevCluster, card: Card) -> str:
    return cluster.run("squeue", "--noheader", "--format=%N", f"--jobs={card.job.removeprefix('slurm-')}").strip()


def test_a_time_limit(start):
    # SLURM warns 20 to 50 s after the start, when both are at work (see test_studies.py); a trial takes longer.
    profile = PROFILE.model_copy(update={"minutes": 2, "signal_seconds": 70})
    study = start(profile, params={"grpo.beta": 2.6})
    study.wait(240)
    check_starts(study)
    assert [study.lease(number).losses for number in range(2)] == [0, 0]


def test_pre_emption_by_a_higher_partition(start, cluster):
    study = start()
    cards = both(study)
    cluster.submit("-p", "urgent", "-w", node_of(cluster, cards[0]), "-c", "8", "--wrap", "sleep 3")
    study.wait(240)
    check_two_starts(study, losses=0)


def test_a_node_that_fails_with_its_jobs(start, cluster):
    study = start()
    node = node_of(cluster, both(study)[0])
    cluster.kill_node(node, jobs=True)
    study.wait(240)
    check_two_starts(study, losses=1)
    cluster.start_node(node)
