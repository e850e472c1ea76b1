"""Studies of named arms: what is accepted, and that every arm runs to its end and exports its test answers."""

from __future__ import annotations

import io
import json
import os
import signal
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch.nn.utils import parameters_to_vector

from grip_core.config import EMBEDDED_N, load
from grip_core.errors import UserError
from grip_core.evaluation.exports import ANSWERS, current_hashes, is_stale, read_export, write_export
from grip_core.rl.inputs import Inputs, open_task
from grip_core.supervised.compute import token_forwards
from studies.answers import export_answers, module_hashes
from studies.comparison import ROWS, Comparison, cost
from studies.definition import Definition, as_yaml, load_definition
from studies.export import export
from studies.jobs import cancel
from studies.launch import check
from studies.preview import preview
from studies.profile import Profile
from studies.promote import best_few
from studies.sampling import grid_points
from studies.space import check_space, trial_params
from studies.training import Training
from studies.void import refusals, void_settings
from tests.rl.conftest import make_scorer, make_store
from tests.studies.conftest import ROOT, toy
from tests.studies.harness import launched, wait_until
from tests.studies.tiny import TinyComparison

LOCAL = Profile(cluster="local", workers=1)
BASE: dict[str, Any] = {"space": {}, "promote": None, "sampler": {"name": "grid"}, "params": {}}
GRPO = {"trainable": "studies.training:Training"}
COMPARED = {"trainable": "studies.comparison:Comparison"}


def of_arms(arms: dict[str, Any], **changes: Any) -> Definition:
    """The toy study of arms."""
    return toy(**BASE | {"arms": arms, "budget": {"trials": max(1, len(arms))}} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"grpo.beta": {"choices": [0.1]}}}, "exactly one of space and arms must be given, but got both"),
        ({"arms": {}}, "exactly one of space and arms must be given, but got none"),
        ({"sampler": {"name": "random"}}, "sampler is for a space"),
        ({"pruner": {"name": "hyperband"}}, "pruner is for a space"),
        ({"promote": {"best": 1, "seeds": [9]}}, "promote is for a space"),
        ({"budget": {"trials": 2}}, "the grid's 1 points"),
        ({"arms": {"a": {"grpo.beta": {"low": 1}}}}, "arms.a.grpo.beta"),
    ],
)
def test_a_mistake_in_a_study_of_arms_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        of_arms(**{"arms": {"a": {}}} | changes)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {}, "b": {"grpo.betta": 1.0}}, "arms.b: grpo.betta is not a key"),
        ({"a": {"budgets.values": [1, "x", 3]}}, "arms.a: budgets.values"),
        ({"a": {"grpo.loss_type": "luspo"}}, "importance_level must be sequence"),
        ({"a": {"grpo.steps": 4}}, "follows from compute.selections"),
        ({"a": {"grpo.group_size": 48}}, "arms.a: compute.selections must be a multiple"),
        ({"a": {}, "b": {"grpo.start": "warmup"}}, "the arms a and b have the same settings"),
    ],
)
def test_an_arm_is_checked_as_a_whole(params, arms, message):
    with pytest.raises(UserError, match=message):
        check_space(of_arms(arms), params)


def test_keys_that_go_together_and_lists_are_taken(params):
    pair = {"grpo.loss_type": "luspo", "grpo.importance_level": "sequence", "grpo.learning_rate": 0.001}
    definition = of_arms(
        {"base": {}, "luspo": pair, "three": {"budgets.schedule": "mixture", "budgets.values": [2, 5, 9]}}, **GRPO
    )
    check(definition, params)
    assert not [item for item in void_settings(definition, params) if item.severity == "refuse"]
    assert trial_params(definition, params, definition.arms["three"]).budgets.values == [2, 5, 9]
    assert grid_points(definition) == [{"arm": "base"}, {"arm": "luspo"}, {"arm": "three"}]


@pytest.mark.parametrize(
    ("arm", "key"),
    [
        ({"grpo.epsilon": 0.3}, "grpo.epsilon"),  # with one update a rollout
        ({"budgets.schedule": "constant", "budgets.high": 40}, "budgets.high"),
        ({"supervised.method": "gumbel", "grpo.beta": 0.1}, "grpo.beta"),
        ({"grpo.beta": 0.1, "supervised.temperature": 2.0}, "supervised.temperature"),
    ],
)
def test_a_void_key_of_an_arm_is_refused(params, arm, key):
    definition = of_arms({"base": {}, "odd": arm}, **COMPARED)
    (line,) = refusals(definition, void_settings(definition, params)).splitlines()
    assert line.startswith(f"toy: arms.odd.{key} makes no difference")


def test_a_void_key_without_which_an_arm_is_invalid_has_a_use(params):
    needed = {"budgets.schedule": "constant", "budgets.constant": 72, "budgets.high": 72}
    assert not void_settings(of_arms({"base": {}, "only": needed}, **COMPARED), params)


@pytest.mark.parametrize(
    ("trainable", "key"), [(Training, "supervised.method"), (Comparison, "supervised.steps"), (Comparison, "vlm.path")]
)
def test_keys_that_no_arm_can_have(trainable, key):
    with pytest.raises(UserError, match=key):
        trainable.check_keys(["grpo.beta", key])


def test_the_shipped_arms_are_sound_and_have_as_many_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no features lie
    definition, params = load_definition(ROOT / "studies" / "training_principles.yaml"), load(ROOT / "params.yaml")
    check(definition, params)
    assert not void_settings(definition, params)
    assert definition.budget.trials == len(definition.arms) == 10
    costs = {arm: cost(trial_params(definition, params, definition.arms[arm])) for arm in definition.arms}
    assert {item["steps"] for item in costs.values()} == {200}
    assert {item["selections"] for item in costs.values() if "selections" in item} == {102400}
    text = io.StringIO()
    preview(Console(file=text, width=200), ROOT / "none", definition, params, LOCAL)
    assert "only_72" in text.getvalue()
    assert "budgets.values=[1, 4, 14]" in text.getvalue()
    assert "promote" not in text.getvalue()


def test_the_shipped_supervised_arms_ask_as_much_of_the_vlm_as_grpo(params):
    """Prompts and answers have 11 tokens of text on average, as `preview` counts them where features are."""
    definition = load_definition(ROOT / "studies" / "training_principles.yaml")

    def work(arm: dict[str, Any]) -> float:
        run = trial_params(definition, params, arm)
        return token_forwards(run.grpo, run.supervised, run.budgets, EMBEDDED_N, 11.0)

    supervised = {name: arm for name, arm in definition.arms.items() if "supervised.method" in arm}
    assert set(supervised) == {"gumbel", "soft_topk", "diffprune", "distill"}
    assert [work(arm) / work({}) for arm in supervised.values()] == pytest.approx([1.0] * 4, abs=0.05)


def test_a_preview_says_what_each_arm_asks_of_the_vlm_and_what_a_worker_takes(params, llava, monkeypatch):
    quarter = {"grpo.group_size": 4 * params.grpo.group_size}  # of the steps
    compute = {"selections": params.grpo.prompts_per_step * params.grpo.group_size * 8, "rungs": 1}
    arms = {"base": {}, "distill": {"supervised.method": "distill"}, "large": quarter}
    definition = of_arms(arms, **COMPARED, compute=compute)
    monkeypatch.setattr(Comparison, "check_inputs", lambda params: None)
    monkeypatch.setattr("grip_core.vlm.features.load_store", lambda *_: make_store(llava))
    monkeypatch.setattr(Comparison, "token_forwards", lambda trials: [2000.0 * (i + 1) for i in range(len(trials))])
    text = io.StringIO()
    preview(Console(file=text, width=200), ROOT / "none", definition, params, LOCAL)
    shown = [line.split() for line in text.getvalue().splitlines() if line.startswith("│")]
    assert {line[1]: line[-2] for line in shown} == {"base": "2.00", "distill": "3.00", "large": "1.00"}
    assert "settings of its own, 16,000" in text.getvalue()
    assert "memory: about 0." in text.getvalue()
    assert "features on the disk: " in text.getvalue()


def test_a_definition_of_arms_can_be_launched_again_from_its_record(tmp_path):
    path = tmp_path / "again.yaml"
    definition = load_definition(ROOT / "studies" / "training_principles.yaml")
    path.write_text(as_yaml(definition))
    assert load_definition(path) == definition


def test_an_untrained_start_is_the_seeds_own_and_not_the_warm_up(tmp_path):
    make_scorer().save_pretrained(tmp_path / "scorer")
    inputs = Inputs(SimpleNamespace(device=torch.device("cpu")), None, None, {})
    starts = [
        open_task(inputs, tmp_path, start, seed).warmup.state_dict()["score.weight"].abs().sum().item()
        for start, seed in [("warmup", 0), ("untrained", 0)]
    ]
    assert starts[0] > 0
    assert starts[1] == 0  # a new head is zero: every selection is as probable
    first, again, other = (
        parameters_to_vector(open_task(inputs, tmp_path, "untrained", seed).warmup.parameters()) for seed in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)


ARMS = {
    "gumbel": {"supervised.method": "gumbel", "supervised.prompts_per_step": 4},
    "only_3": {"budgets.schedule": "constant", "budgets.constant": 3},
}
TINY: dict[str, Any] = {
    "trainable": "tests.studies.tiny:TinyComparison",
    "params": {
        "budgets.high": 12,
        "grpo.prompts_per_step": 4,
        "grpo.group_size": 3,
        "grpo.filter.failed_with_all_tokens": False,
    },
    "compute": {"selections": 48, "rungs": 2},  # 4 steps
    "lease": {"beat": 0.5, "grace": 6.0},
}


def test_answers_are_given_once_a_run_and_only_at_its_end(tmp_path, params, monkeypatch):
    definition, trainable = of_arms(ARMS, **TINY), TinyComparison(params)
    asked = []
    answer = trainable.answer
    monkeypatch.setattr(trainable, "answer", lambda seed, run: (asked.append(seed), answer(seed, run)))
    arm = trial_params(definition, params, definition.arms["gumbel"])
    assert trainable.advance(arm, 1, 2, tmp_path / "run", lambda: False)["step"] == 2
    assert not asked
    last = trainable.advance(arm, 1, 4, tmp_path / "run", lambda: False)
    assert trainable.advance(arm, 1, 4, tmp_path / "run", lambda: False) == last
    assert asked == [1]


@pytest.mark.slow
def test_arms_run_to_their_end_through_a_kill_and_their_answers_are_exported(tmp_path, monkeypatch, params):
    monkeypatch.chdir(ROOT)
    study = launched(tmp_path / "studies", LOCAL, **BASE | TINY | {"arms": ARMS, "budget": {"trials": 2}})
    answered = study.folder.run(0, 1, 1) / ROWS
    try:
        wait_until(answered.exists, 120, "the first run has answered")
        os.kill(study.cards()[0].pid, signal.SIGKILL)
        study.wait_for_workers()
        mark = pd.read_parquet(answered).assign(correct=True)
        mark.to_parquet(answered)
        study.resume()
        study.wait(240)
    finally:
        cancel(study.folder)
    assert pd.read_parquet(study.folder.run(0, 2, 1) / ROWS).equals(mark)  # not answered a second time
    rows, manifest = read_export(export_answers(study.folder, tmp_path / "out"))
    assert set(zip(rows["method"], rows["seed"])) == {(arm, seed) for arm in ARMS for seed in (1, 2)}
    assert len(rows) == 4 * 18 * rows["k"].nunique()
    assert set(rows["k"]) == {k for k in params.evaluate.budgets if k < TinyComparison(params).test.n_visual}
    # The arm that nobody disturbed answers as in a study of its own.
    whole, arm = tmp_path / "whole", trial_params(study.definition, params, ARMS["only_3"])
    TinyComparison(params).advance(arm, 2, 4, whole, lambda: False)
    alone = pd.read_parquet(whole / ROWS).sort_values(["k", "benchmark", "example_id"])["correct"].tolist()
    assert rows[(rows["method"] == "only_3") & (rows["seed"] == 2)]["correct"].tolist() == alone
    assert manifest["arms"]["only_3"]["cost"] == {"steps": 4, "selections": 48}
    assert manifest["hashes"]["vlm"] == "tiny"
    assert "arm" in pd.read_parquet(export(study.folder, "parquet")).columns
    with pytest.raises(UserError, match="compares arms"):
        best_few(None, study.definition)


def export_at(folder, **hashes: str):
    """An export by hand."""
    row = {"benchmark": "b", "example_id": "q", "image_id": 0, "method": "gumbel", "seed": 0, "k": 1, "correct": True}
    write_export(folder, pd.DataFrame([row]), {"hashes": hashes})
    return folder


def test_a_table_that_is_not_its_manifests_is_refused(tmp_path):
    folder = export_at(tmp_path, vlm="1")
    assert read_export(folder)[0]["correct"].tolist() == [True]
    (folder / ANSWERS).write_bytes((folder / ANSWERS).read_bytes() + b" ")
    with pytest.raises(UserError, match="must have the sha256 of its manifest"):
        read_export(folder)
    (folder / ANSWERS).unlink()
    with pytest.raises(UserError, match="holds no export"):
        read_export(folder)


def test_what_has_changed_since_is_told_by_name(tmp_path, monkeypatch, params):
    monkeypatch.chdir(ROOT)
    hashes = module_hashes(ROOT, "studies.comparison")
    assert "grip_core/rl/grpo.py" in hashes  # imported inside of a function, through others
    assert not [name for name in hashes if not name.startswith("grip_core/") or "config" in name]
    manifest = {
        "hashes": {"grip_core/rl/grpo.py": hashes["grip_core/rl/grpo.py"], "vlm": "old", "grip_core/gone.py": "x"}
    }
    monkeypatch.setattr("grip_core.evaluation.exports.input_hashes", lambda *_: {"vlm": "new"})
    assert is_stale(manifest, current_hashes(manifest, params.data.benchmarks, params.vlm.path)) == [
        "vlm",
        "grip_core/gone.py",
    ]
    assert is_stale(manifest, json.loads(json.dumps(manifest))["hashes"]) == []
