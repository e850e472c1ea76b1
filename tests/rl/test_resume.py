"""A run that is killed and started again gives the numbers of one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from grip_core.config import ScorerConfig, WarmupConfig
from grip_core.rl.checkpoints import newest, seal
from grip_core.rl.train import Task, train
from grip_core.rl.warmup import build_scorer, warm_up
from grip_core.runs import RunFolder
from tests.rl.conftest import BUDGETS


class Killed(Exception):
    """Stands for a kill inside the process, at an exact step."""


def kill_at(step):
    def on_step(now, row):
        if now == step:
            raise Killed

    return on_step


def same_runs(first: Path, second: Path) -> None:
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    one, other = (load_file(run / "scorer" / "model.safetensors") for run in (first, second))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


@pytest.fixture
def grpo_run(grpo, warmup_scorer, llava, store, validation):
    def run(folder: Path, iterations: int, on_step=lambda step, row: None, pause=lambda step: False):
        config = grpo.model_copy(update={"num_iterations": iterations})
        task = Task(llava.vlm, store, warmup_scorer)
        return train(config, BUDGETS, 5, task, validation, RunFolder(folder, {"seed": 5}), on_step, pause)

    return run


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("step", [0, 1, 3, 4, 7])
def test_an_interrupted_grpo_run_equals_an_uninterrupted_one(grpo_run, tmp_path, iterations, step):
    grpo_run(tmp_path / "whole", iterations)
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", iterations, kill_at(step))
    grpo_run(tmp_path / "cut", iterations)
    same_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_paused_grpo_run_goes_on_where_it_was(grpo_run, tmp_path, iterations, step):
    grpo_run(tmp_path / "whole", iterations)
    assert grpo_run(tmp_path / "cut", iterations, pause=lambda now: now >= step) is None
    last = json.loads((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert last == -(-step // iterations) * iterations  # the next end of a rollout
    assert grpo_run(tmp_path / "cut", iterations) is not None
    same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_damaged_newest_checkpoint_is_passed_over(grpo_run, tmp_path, caplog):
    grpo_run(tmp_path / "whole", 1)
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", 1, kill_at(7))
    weights = tmp_path / "cut" / "checkpoints" / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    grpo_run(tmp_path / "cut", 1)
    assert "checkpoint-6 is damaged" in caplog.text
    same_runs(tmp_path / "whole", tmp_path / "cut")


def test_an_unsealed_checkpoint_does_not_count(tmp_path):
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_text(str(step))
    seal(tmp_path / "checkpoint-2")
    assert newest(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / "checkpoint-4").exists()


def test_an_interrupted_warm_up_equals_an_uninterrupted_one(llava, store, validation, tmp_path, monkeypatch):
    monkeypatch.setattr("grip_core.rl.warmup.CHECKPOINT_EVERY", 2)
    config = WarmupConfig(teacher="attention", sharpness=2.0, steps=6, prompts_per_step=4, learning_rate=0.01, seed=0)

    def run(folder: Path, on_step=lambda step, row: None):
        scorer = build_scorer(ScorerConfig(width=16, layers=1, heads=2), 32, seed=0)
        warm_up(config, BUDGETS, scorer, llava.vlm, store, validation, RunFolder(folder, {}), on_step)

    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill_at(5))
    run(tmp_path / "cut")
    same_runs(tmp_path / "whole", tmp_path / "cut")


SCRIPT = """
import sys
from pathlib import Path
from tests.conftest import _llava
from tests.rl import conftest as world
from grip_core.rl.train import Task, train
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder

llava = _llava()
store = world.make_store(llava)
config = world.make_grpo().model_copy(update={"num_iterations": int(sys.argv[2])})
task = Task(llava.vlm, store, world.make_scorer())
train(config, world.BUDGETS, 5, task, Validation(llava.vlm, store, [1, 4]),
      RunFolder(Path(sys.argv[1]), {"seed": 5}), lambda step, row: print(f"step {step}", flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [1, 2])
def test_a_process_killed_by_the_system_resumes_to_the_same_numbers(tmp_path, iterations):
    """kill -9 at several moments, each in the run that the one before left behind."""

    def start(folder: Path) -> subprocess.Popen:
        arguments = [sys.executable, "-c", SCRIPT, str(folder), str(iterations)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})

    whole = start(tmp_path / "whole")
    assert whole.wait() == 0
    for step in (1, 3, 6):
        process = start(tmp_path / "cut")
        for line in process.stdout:
            if line.startswith("step ") and int(line.split()[1]) >= step:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()
    assert start(tmp_path / "cut").wait() == 0
    same_runs(tmp_path / "whole", tmp_path / "cut")
