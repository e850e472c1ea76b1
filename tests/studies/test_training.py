"""Trials that are GRPO runs: pausing, killing and taking over change none of their numbers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from optuna.trial import TrialState

from grip_core.config import load
from grip_core.errors import UserError
from studies.jobs import cancel
from studies.profile import Profile
from studies.space import trial_params
from studies.training import Training
from tests.studies.conftest import ROOT
from tests.studies.harness import Launched, launched
from tests.studies.tiny import Tiny

pytestmark = pytest.mark.slow
TINY = {
    "trainable": "tests.studies.tiny:Tiny",
    "space": {"grpo.num_iterations": {"choices": [1, 2]}},
    "params": {
        "grpo.prompts_per_step": 4,
        "grpo.group_size": 3,
        "grpo.learning_rate": 0.01,
        "grpo.filter.failed_with_all_tokens": False,
    },
    "sampler": {"name": "grid"},
    "compute": {"selections": 96, "rungs": 2, "checkpoints_per_rung": 2},  # 8 rollouts
    "budget": {"trials": 2},
    "lease": {"beat": 0.5, "grace": 6.0},
}


def check_equal(study: Launched, folder: Path) -> None:
    """Every run of the study has the rows of one that nobody has disturbed."""
    tiny = Tiny(load(ROOT / "params.yaml"))
    for trial in study.trials():
        params = trial_params(study.definition, load(ROOT / "params.yaml"), dict(trial.params))
        for seed in study.definition.seeds:
            whole = folder / f"{trial.number}-{seed}"
            tiny.advance(params, seed, params.grpo.steps, whole, lambda: False)
            run = study.folder.run(trial.number, study.lease(trial.number).attempt, seed)
            assert (run / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
            scorer = Path("scorer") / "model.safetensors"
            assert (run / scorer).read_bytes() == (whole / scorer).read_bytes()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGUSR2])
def test_a_disturbed_trial_has_the_numbers_of_an_undisturbed_one(tmp_path, monkeypatch, how):
    monkeypatch.chdir(ROOT)
    study = launched(tmp_path / "studies", Profile(cluster="local", workers=1), **TINY)
    try:
        card = study.busy(steps=6)  # in the second rung of the first trial
        os.kill(card.pid, how)
        study.wait_for_workers()
        study.resume()
        study.wait(240)
    finally:
        cancel(study.folder)
    assert study.lease(card.trial).attempt == 2
    check_equal(study, tmp_path / "whole")


def test_a_trial_that_collapses_and_stops_is_judged_by_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ends = {"grpo.collapse.entropy": 1.0, "grpo.collapse.evaluations": 1, "grpo.collapse.stop": True}
    study = launched(tmp_path, Profile(cluster="local", workers=1), **TINY | {"params": TINY["params"] | ends})
    try:
        study.wait(240)
    finally:
        cancel(study.folder)
    for trial in study.trials():
        for seed in study.definition.seeds:
            run = study.folder.run(trial.number, 1, seed)
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            assert rows[-1]["step"] < 8
            assert "accuracy" in rows[-1]
            assert json.loads((run / "collapse.json").read_text())["cause"] == "entropy"
        assert trial.state == TrialState.COMPLETE


@pytest.mark.parametrize("key", ["vlm.path", "data.seed", "scorer.layers", "warmup.seed", "grpo.validation_questions"])
def test_what_is_opened_once_cannot_be_searched(key):
    with pytest.raises(UserError, match=f"{key} cannot differ between trials"):
        Training.check_keys(["grpo.beta", key])


def test_a_study_needs_the_pipelines_outputs(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run `make repro` first"):
        Training.check_inputs(params)
