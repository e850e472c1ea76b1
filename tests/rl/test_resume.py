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
from tests.rl.conftest import BUDGETS, make_budgets, make_grpo, make_reward


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
def grpo_run(warmup_scorer, llava, store, validation):
    def run(folder: Path, changes=None, on_step=lambda step, row: None, pause=lambda step: False, budgets=BUDGETS):
        task = Task(llava.vlm, store, warmup_scorer)
        config = make_grpo(**changes or {})
        return train(config, budgets, 5, task, validation, RunFolder(folder, {"seed": 5}), on_step, pause)

    return run


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("step", [0, 1, 3, 4, 7])
def test_an_interrupted_grpo_run_equals_an_uninterrupted_one(grpo_run, tmp_path, iterations, step):
    changes = {"num_iterations": iterations}
    grpo_run(tmp_path / "whole", changes)
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", changes, kill_at(step))
    grpo_run(tmp_path / "cut", changes)
    same_runs(tmp_path / "whole", tmp_path / "cut")


OPTIONS = {
    "constant": ({}, {"schedule": "constant"}),
    "uniform": ({}, {"schedule": "uniform"}),
    "linear": ({}, {"schedule": "linear"}),
    "cosine": ({}, {"schedule": "cosine", "direction": "low_to_high"}),
    "staged": ({}, {"schedule": "staged"}),
    "mixture": ({}, {"schedule": "mixture"}),
    "adaptive": ({}, {"schedule": "adaptive"}),
    "conditional Bernoulli": ({"distribution": "conditional_bernoulli", "entropy_coef": 0.1}, {}),
    "Bernoulli": ({"distribution": "bernoulli", "loss_type": "dapo"}, {"schedule": "adaptive"}),
    "exact KL": ({"kl_estimator": "exact", "entropy_coef": 0.1}, {}),
    "KL in the reward": (
        {"kl_placement": "reward", "kl_estimator": "k1", "baseline": "leave_one_out", "scale_rewards": "batch"},
        {},
    ),
    "resampled groups": ({"dead_groups": "resample", "min_std": 0.3}, {"schedule": "adaptive"}),
    "dropped groups": ({"dead_groups": "drop", "min_std": 0.3}, {}),
    "fidelity": ({"reward": make_reward(fidelity=1.0, correct=0.5), "loss_type": "dapo"}, {}),
    "sequence level": ({"importance_level": "sequence", "epsilon_high": 0.4}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_resumed_exactly(grpo_run, tmp_path, name, iterations):
    changes, schedule = OPTIONS[name]
    changes, budgets = {**changes, "num_iterations": iterations}, make_budgets(**schedule)
    grpo_run(tmp_path / "whole", changes, budgets=budgets)
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", changes, kill_at(5), budgets=budgets)
    grpo_run(tmp_path / "cut", changes, budgets=budgets)
    same_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_paused_grpo_run_goes_on_where_it_was(grpo_run, tmp_path, iterations, step):
    changes = {"num_iterations": iterations}
    grpo_run(tmp_path / "whole", changes)
    assert grpo_run(tmp_path / "cut", changes, pause=lambda now: now >= step) is None
    last = json.loads((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert last == -(-step // iterations) * iterations  # the next end of a rollout
    assert grpo_run(tmp_path / "cut", changes) is not None
    same_runs(tmp_path / "whole", tmp_path / "cut")


COLLAPSING = {"collapse": make_grpo().collapse.model_copy(update={"entropy": 1.0})}  # every policy is below it


def test_a_collapse_is_flagged_with_its_step_and_cause_and_may_end_the_run(grpo_run, tmp_path, caplog):
    grpo_run(tmp_path / "healthy")
    assert not (tmp_path / "healthy" / "collapse.json").exists()
    grpo_run(tmp_path / "flagged", COLLAPSING)
    assert json.loads((tmp_path / "flagged" / "collapse.json").read_text()) == {"step": 2, "cause": "entropy"}
    assert "step 2: the run has collapsed (entropy)" in caplog.text
    assert len((tmp_path / "flagged" / "metrics.jsonl").read_text().splitlines()) == 9
    stopping = {"collapse": COLLAPSING["collapse"].model_copy(update={"stop": True})}
    assert grpo_run(tmp_path / "stopped", stopping) is not None
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "stopped" / "status.json").read_text()) == {"state": "finished", "step": 2}


@pytest.mark.parametrize("stop", [False, True])
def test_a_collapse_is_found_again_after_a_kill(grpo_run, tmp_path, stop):
    collapse = COLLAPSING["collapse"].model_copy(update={"evaluations": 5, "stop": stop})
    changes = {"collapse": collapse}
    grpo_run(tmp_path / "whole", changes)
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", changes, kill_at(4))  # between the rows that it counts
    grpo_run(tmp_path / "cut", changes)
    same_runs(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "cut" / "collapse.json").read_text() == (tmp_path / "whole" / "collapse.json").read_text()


def test_a_run_killed_right_after_its_collapse_does_not_go_on(grpo_run, tmp_path, monkeypatch):
    changes = {"collapse": COLLAPSING["collapse"].model_copy(update={"evaluations": 4, "stop": True})}
    grpo_run(tmp_path / "whole", changes)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            grpo_run(tmp_path / "cut", changes)
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-4").exists()
    grpo_run(tmp_path / "cut", changes)
    same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_metric_that_is_no_number_ends_the_run_and_is_flagged(grpo_run, tmp_path, monkeypatch):
    monkeypatch.setattr("grip_core.rl.grpo.reward", lambda config, scored: scored.answers.log_prob_R * float("nan"))
    with pytest.raises(FloatingPointError, match="step 1: a metric is not finite"):
        grpo_run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "collapse.json").read_text()) == {"step": 1, "cause": "nan"}


def test_seeds_decide_every_number(grpo_run, warmup_scorer, llava, store, validation, tmp_path):
    grpo_run(tmp_path / "one")
    grpo_run(tmp_path / "again")
    same_runs(tmp_path / "one", tmp_path / "again")
    task = Task(llava.vlm, store, warmup_scorer)
    train(make_grpo(), BUDGETS, 6, task, validation, RunFolder(tmp_path / "other", {"seed": 6}))
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "other")]
    assert rows[0][0] == rows[1][0]  # the warm-up's own evaluation
    assert all(one != other for one, other in zip(rows[0][1:], rows[1][1:], strict=True))


def test_a_damaged_newest_checkpoint_is_passed_over(grpo_run, tmp_path, caplog):
    grpo_run(tmp_path / "whole")
    with pytest.raises(Killed):
        grpo_run(tmp_path / "cut", None, kill_at(7))
    weights = tmp_path / "cut" / "checkpoints" / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    grpo_run(tmp_path / "cut")
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
        warm_up(config, BUDGETS.low, BUDGETS.high, scorer, llava.vlm, store, validation, RunFolder(folder, {}), on_step)

    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill_at(5))
    run(tmp_path / "cut")
    same_runs(tmp_path / "whole", tmp_path / "cut")


SCRIPT = """
import sys
from pathlib import Path
from tests import families
from tests.rl import conftest as world
from grip_core.rl.train import Task, train
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder

llava = families.llava()
store = world.make_store(llava)
config = world.make_grpo(num_iterations=int(sys.argv[2]))
task = Task(llava.vlm, store, world.make_scorer())
budgets = world.make_budgets(schedule="adaptive")
train(config, budgets, 5, task, Validation(llava.vlm, store, [1, 4]),
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


@pytest.mark.slow
def test_another_process_gives_the_same_numbers(grpo_run, tmp_path):
    arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / "there"), "1"]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": "."})
    grpo_run(tmp_path / "here", budgets=make_budgets(schedule="adaptive"))
    same_runs(tmp_path / "here", tmp_path / "there")
