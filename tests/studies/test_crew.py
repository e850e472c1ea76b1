"""A worker of two processes has the trials of a worker of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from grip_core.config import load
from grip_core.errors import UserError
from studies.crew import check_crew
from studies.failures import failure_of
from studies.folder import StudyFolder
from studies.jobs import cancel
from studies.launch import launch
from studies.profile import Profile
from studies.space import trial_params
from studies.worker import CREW_APART
from tests.studies.conftest import ROOT
from tests.studies.harness import Launched, wait_until
from tests.studies.test_arms import of_arms
from tests.studies.test_training import TINY
from tests.studies.tiny import TinyComparison


def test_a_profile_has_a_device_for_each_process():
    check_crew(1, Profile(cluster="slurm", workers=1, gpus=1, runs_per_vlm=4))
    check_crew(4, Profile(cluster="slurm", workers=1, gpus=4))
    check_crew(4, Profile(cluster="slurm", workers=1, gres="gpu:a100:4", gpus=4))
    check_crew(2, Profile(cluster="local", workers=1))
    with pytest.raises(UserError, match=r"a GPU for each of vlm.processes=4, but has gpus=2; raise gpus"):
        check_crew(4, Profile(cluster="slurm", workers=1, gpus=2))
    with pytest.raises(UserError, match=r"must be 1 where runs share a VLM, but got 2 with runs_per_vlm=4"):
        check_crew(2, Profile(cluster="local", workers=1, runs_per_vlm=4))


def followers(pid: int) -> list[int]:
    """Of a worker."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"follow" in Path(f"/proc/{child}/cmdline").read_bytes()]


def sent(tmp_path: Path, arms: dict[str, dict[str, int]], trainable: str) -> Launched:
    """A study with one worker of two processes."""
    params = load(ROOT / "params.yaml")
    several = params.model_copy(update={"vlm": params.vlm.model_copy(update={"processes": 2})})
    definition = of_arms(
        arms,
        # 256 selections a rollout: two forwards, whether one process makes both or two make one each
        params={**TINY["params"], "grpo.prompts_per_step": 64, "grpo.group_size": 4},
        compute={**TINY["compute"], "selections": 4096},
        lease=TINY["lease"],
        trainable=f"tests.studies.tiny:{trainable}",
    )
    launch(tmp_path / "studies", definition, several, Profile(cluster="local", workers=1), None, [])
    folder = StudyFolder((tmp_path / "studies" / definition.name).absolute())
    return Launched(folder, definition, folder.read().storage)


@pytest.mark.slow
def test_a_worker_of_two_processes_has_the_numbers_of_one_whatever_happens_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # accelerate gives each process its share of the cores otherwise
    study = sent(tmp_path, {"plain": {}, "twice": {"grpo.num_iterations": 2}}, "TinyComparison")
    folder, definition, params = study.folder, study.definition, load(ROOT / "params.yaml")
    try:
        # A scheduler signals every process of a job.
        first = study.busy(steps=4)
        for pid in (first.pid, *followers(first.pid)):
            os.kill(pid, signal.SIGTERM)
        study.wait_for_workers()
        assert [card.ended for card in study.cards()] == ["it was interrupted"]
        study.resume()
        # One that dies takes the worker with it, which would wait for it for ever.
        second = wait_until(lambda: next((card for card in study.cards() if card.trial is not None), None), 60, "busy")
        (follower,) = followers(second.pid)
        os.kill(follower, signal.SIGKILL)
        study.wait_for_workers()
        study.resume()
        study.wait(240)
    finally:
        cancel(folder)
    alone = TinyComparison(params)
    for trial in study.trials():
        own = trial_params(definition, params, dict(definition.arms[trial.params["arm"]]))
        for seed in definition.seeds:
            whole = tmp_path / f"{trial.number}-{seed}"
            alone.advance(own, seed, own.grpo.steps, whole, lambda: False)
            run = folder.run(trial.number, study.lease(trial.number).attempt, seed)
            assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    logs = sorted(folder.logs.glob("*.1.log"))
    assert len(logs) == 3
    assert not [log for log in logs if "Traceback" in log.read_text()]


@pytest.mark.slow
def test_a_worker_ends_when_one_of_its_processes_alone_runs_out_of_memory(tmp_path, monkeypatch):
    """The other waits for it in the middle of a step, and would for ever."""
    monkeypatch.chdir(ROOT)
    study = sent(tmp_path, {"plain": {}, "twice": {"grpo.num_iterations": 2}}, "Exhausted")
    try:
        wait_until(study.cards, 60, "a worker is there")  # a moment after it is sent it cannot be told from its parent
        study.wait_for_workers()
    finally:
        cancel(study.folder)
    (card,) = study.cards()
    assert card.ended == CREW_APART
    first, second = study.trials()
    assert failure_of(first)["cause"] == "out of memory"
    assert second.state == TrialState.WAITING
