"""A supervised run: resumed exactly, measured as GRPO's, and the same but for its loss."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grip_core.config import FilterConfig, load
from grip_core.errors import UserError
from grip_core.rl.task import Task
from grip_core.rl.train import make_plan, train
from grip_core.runs import RunFolder
from grip_core.supervised import train as module
from grip_core.supervised.compute import (
    grpo_token_forwards,
    mean_budget,
    mean_text,
    supervised_token_forwards,
    token_forwards,
)
from grip_core.supervised.train import train_supervised
from grip_core.vlm.assemble import assemble
from grip_core.vlm.context import Selection
from tests.families import ANSWERS
from tests.rl.conftest import BUDGETS, make_budgets, make_grpo
from tests.rl.test_resume import Killed, kill_at, same_runs
from tests.supervised.conftest import METHODS, make_supervised


@pytest.fixture
def supervised_run(warmup_scorer, llava, store, validation):
    def run(folder: Path, budgets=BUDGETS, seed=5, vlm=llava.vlm, on_step=None, pause=lambda step: False, **changes):
        task = Task(vlm, store, warmup_scorer)
        on_step = on_step or (lambda step, row: None)
        config = make_supervised(**changes)
        return train_supervised(config, budgets, seed, task, validation, RunFolder(folder, {}), on_step, pause)

    return run


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_an_interrupted_run_equals_an_uninterrupted_one(supervised_run, tmp_path, method, step):
    supervised_run(tmp_path / "whole", method=method)
    with pytest.raises(Killed):
        supervised_run(tmp_path / "cut", method=method, on_step=kill_at(step))
    supervised_run(tmp_path / "cut", method=method)
    same_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("step", [1, 2])
def test_a_paused_run_goes_on_where_it_was(supervised_run, tmp_path, method, step):
    supervised_run(tmp_path / "whole", method=method)
    assert supervised_run(tmp_path / "cut", method=method, pause=lambda now: now >= step) is None
    assert RunFolder(tmp_path / "cut", {}).metrics()[-1]["step"] == step
    assert supervised_run(tmp_path / "cut", method=method, pause=lambda now: now == make_supervised().steps)
    same_runs(tmp_path / "whole", tmp_path / "cut")


def test_every_method_and_seed_makes_another_scorer_from_the_same_start(supervised_run, tmp_path, warmup_scorer):
    before = {name: value.clone() for name, value in warmup_scorer.state_dict().items()}
    runs = {name: {"method": name} for name in METHODS} | {"other seed": {"method": "gumbel", "seed": 6}}
    heads = [before["score.weight"]]
    for name, changes in runs.items():
        supervised_run(tmp_path / name, **changes)
        heads.append(load_file(tmp_path / name / "scorer" / "model.safetensors")["score.weight"])
    assert all(not one.equal(other) for i, one in enumerate(heads) for other in heads[:i])
    assert all(value.equal(before[name]) for name, value in warmup_scorer.state_dict().items())


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("gumbel", "temperature", 0.5),
        ("soft_topk", "temperature", 0.5),
        ("diffprune", "temperature", 0.5),
        ("soft_topk", "bce_high", 9.0),
        ("soft_topk", "bce_low", 9.0),
        ("distill", "sharpness", 1.0),
        ("gumbel", "max_grad_norm", 1e-3),
        ("gumbel", "lr_schedule", "constant"),
        ("gumbel", "lr_warmup_steps", 0),
    ],
)
def test_every_setting_counts(supervised_run, tmp_path, method, key, value):
    for folder, changes in {"one": {}, "other": {key: value}}.items():
        supervised_run(tmp_path / folder, method=method, steps=4, **changes)
    one, other = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "other"))
    assert one != other


def test_rows_are_named_and_timed_as_grpo_s(supervised_run, tmp_path, warmup_scorer, llava, store, validation):
    supervised_run(tmp_path / "run", steps=5, evaluate_every=3)
    task, config = Task(llava.vlm, store, warmup_scorer), make_grpo(steps=5, evaluate_every=3)
    train(config, BUDGETS, 5, task, validation, RunFolder(tmp_path / "grpo", {}))
    rows, theirs = (RunFolder(tmp_path / name, {}).metrics() for name in ("run", "grpo"))
    assert rows[0] == theirs[0]  # the warm-up's own evaluation
    assert [row["step"] for row in rows if "accuracy" in row] == [0, 3, 5]
    assert [row["learning_rate"] for row in rows[1:]] == [row["learning_rate"] for row in theirs[1:]]
    assert rows[3].keys() <= theirs[3].keys()
    assert rows[3]["accuracy@1"] != rows[3]["log_prob@1"]


def test_questions_and_budgets_are_those_of_grpo(supervised_run, tmp_path, monkeypatch, llava, store):
    seen = []

    def spy(config, batch):
        seen.append((batch.context.answer_ids_BA[:, 0].tolist(), batch.k_B.tolist(), batch.done))
        return {"loss": batch.scores_BN.sum()}

    monkeypatch.setitem(module.RELAXATIONS, "gumbel", spy)
    rule = FilterConfig(answered_without_image=False, failed_with_all_tokens=True)
    supervised_run(tmp_path / "run", make_budgets(schedule="linear"), filter=rule)
    kept = np.flatnonzero(store.table["full_correct"].to_numpy())
    plan = make_plan(make_grpo(steps=6), 5, kept).example
    word = {text: llava.vlm.processor.tokenizer(text.split()[0]).input_ids[0] for text in ANSWERS}
    assert [row for row, _, _ in seen] == [[word[store.table["answer"][i]] for i in row] for row in plan]
    assert [k for _, k, _ in seen] == [[k] * 4 for k in (12, 10, 8, 5, 3, 1)]
    assert [done for _, _, done in seen] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "none"}, "supervised.method must be one of gumbel, soft_topk, diffprune, distill"),
        ({"vlm": SimpleNamespace(device=torch.device("cpu"))}, "needs the VLM in its own process"),
        ({"budgets": make_budgets(schedule="adaptive")}, "budgets.schedule must not be adaptive"),
    ],
)
def test_what_cannot_be_trained_is_refused(supervised_run, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        supervised_run(tmp_path / "run", **changes)


def test_a_task_s_warm_up_lies_where_its_vlm_does(store, warmup_scorer):
    task = Task(SimpleNamespace(device=torch.device("meta")), store, warmup_scorer)
    assert task.warmup.device.type == "meta"


def test_moved_positions_are_refused(supervised_run, tmp_path, llava, monkeypatch):
    monkeypatch.setattr(llava.vlm, "positions", "compact")
    with pytest.raises(UserError, match="positions must be original"):
        supervised_run(tmp_path / "run")


def test_a_filter_that_leaves_nothing_is_refused(llava, store, warmup_scorer, validation, tmp_path):
    failed = store.subset(np.flatnonzero(~store.table["full_correct"].to_numpy()))
    config = make_supervised(filter=FilterConfig(answered_without_image=False, failed_with_all_tokens=True))
    task = Task(llava.vlm, failed, warmup_scorer)
    with pytest.raises(UserError, match=r"supervised\.filter leaves none of the 1 examples"):
        train_supervised(config, BUDGETS, 5, task, validation, RunFolder(tmp_path / "run", {}))


def test_a_loss_that_is_no_number_ends_the_run(supervised_run, tmp_path, monkeypatch):
    nan = torch.tensor(float("nan"))
    monkeypatch.setitem(module.RELAXATIONS, "gumbel", lambda config, batch: {"loss": batch.scores_BN.sum() * nan})
    with pytest.raises(FloatingPointError, match="step 1: a metric is not finite"):
        supervised_run(tmp_path / "run")


def test_the_cost_of_a_step_is_counted_by_hand():
    """GRPO: 16 x 32 selections of 10 + 15 tokens, forward. Supervised: 32 x (144 + 15), forward and backward."""
    grpo = make_grpo(prompts_per_step=16, group_size=32)
    assert grpo_token_forwards(grpo, 10, 15) == 12_800
    assert grpo_token_forwards(make_grpo(prompts_per_step=16, group_size=32, num_iterations=2), 10, 15) == 6_400
    assert supervised_token_forwards(make_supervised(prompts_per_step=32), 144, 15) == 10_176
    assert supervised_token_forwards(make_supervised(prompts_per_step=32, method="distill"), 144, 15) == 5_088


def test_a_step_of_every_kind_of_run_is_counted(llava, store):
    """A GRPO step's budgets are those that its schedule draws; the prompts are those that the VLM reads."""
    params, text = load(), mean_text(llava.vlm, store)
    context = store.context(llava.vlm, range(len(store)))
    inputs = assemble(context, Selection.none(context), llava.vlm.embed, "original", context.answer_ids_BA[:, :-1])
    read = inputs.attention_mask_RS.sum() - (context.answer_mask_BA.shape[1] - context.answer_mask_BA.sum(1)).sum()
    assert text == pytest.approx(read.item() / len(store))
    constant = params.budgets.model_copy(update={"schedule": "constant", "constant": 7})
    found = token_forwards(params.grpo, params.supervised, constant, 144, text)
    assert found == grpo_token_forwards(params.grpo, 7, text)
    distill = make_supervised(method="distill")
    found = token_forwards(params.grpo, distill, constant, 144, text)
    assert found == supervised_token_forwards(distill, 144, text)


def test_the_mean_budget_is_that_of_the_draws():
    """Log-uniform on [1, 36]: (36 - 1) / log 36 = 9.8 were k not whole."""
    params = load()
    assert mean_budget(params.budgets, params.grpo) == pytest.approx(9.8, rel=0.05)
