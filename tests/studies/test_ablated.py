"""Arms of an ablation with a warm-up, or positions, of their own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.rl.validation import Validation
from grip_core.runs import hash_files
from studies.ablated import Ablation, at_positions, has_own_warmup
from studies.claims import carry_over
from studies.comparison import ROWS, Comparison
from studies.definition import load_definition
from studies.folder import StudyFolder, read_lines
from studies.launch import check
from studies.settings import changed_params
from studies.training import OPENED
from studies.void import refusals, void_settings
from tests import families
from tests.rl.conftest import make_scorer
from tests.studies.ablations import BETA, COMPARED, written
from tests.studies.tiny import TinyComparison


def test_of_what_a_worker_opens_an_arm_may_set_the_warm_up_and_the_positions_alone(params):
    Ablation.check_keys(["warmup.teacher", "warmup.steps", "vlm.positions", BETA])
    sections = {name: list(type(params).model_fields[name].annotation.model_fields) for name in OPENED[:-1]}
    for key in [OPENED[-1], *(f"{section}.{name}" for section, names in sections.items() for name in names)]:
        if key.split(".")[0] != "warmup" and key != "vlm.positions":
            with pytest.raises(UserError, match=f"{key} cannot differ between trials"):
                Ablation.check_keys([key])


@pytest.mark.parametrize(
    "clash",
    [
        {"grpo.filter.answered_without_image": True},
        {"grpo.reward.gain": 1.0},
        {"supervised.method": "gumbel"},
        {"supervised.method": "distill"},
    ],
)
def test_other_positions_are_refused_where_the_cache_or_the_training_is_for_the_original_ones(params, clash):
    Ablation.check_trial(changed_params(params, clash, "x"), params, "x")
    Ablation.check_trial(changed_params(params, {"vlm.positions": "compact"}, "x"), params, "x")
    with pytest.raises(UserError, match=r"^x: vlm.positions must be original"):
        Ablation.check_trial(changed_params(params, {"vlm.positions": "compact"} | clash, "x"), params, "x")


def test_the_cache_is_asked_for_by_what_the_method_reads(params):
    gumbel = {"supervised.method": "gumbel"}
    unread, read = "grpo.filter.answered_without_image", "supervised.filter.answered_without_image"
    compact = changed_params(params, {"vlm.positions": "compact"}, "x")
    Ablation.check_trial(changed_params(params, gumbel | {unread: True, "grpo.reward.gain": 1.0}, "x"), compact, "x")
    Ablation.check_trial(changed_params(compact, {read: True}, "x"), params, "x")
    with pytest.raises(UserError, match=rf"^x: vlm.positions must be compact with {read}, but got original"):
        Ablation.check_trial(changed_params(params, gumbel | {read: True}, "x"), compact, "x")
    both = {unread: True, "grpo.reward.gain": 1.0}
    with pytest.raises(UserError, match=f"with {unread} or grpo.reward.gain, but got compact: .* `make repro`$"):
        Ablation.check_trial(changed_params(compact, both, "x"), params, "x")


def test_supervised_training_needs_the_original_positions_of_the_base_too(params):
    own = {"vlm.positions": "compact"}
    base = changed_params(params, own, "x")
    for trainable in (Comparison, Ablation):
        with pytest.raises(UserError, match=r"must be original for supervised.method=distill, but got compact"):
            trainable.check_trial(changed_params(base, {"supervised.method": "distill"}, "x"), base, "x")


def test_a_schedule_that_learns_from_rewards_is_refused_where_there_are_none(params):
    adaptive = changed_params(params, {"budgets.schedule": "adaptive"}, "x")
    Comparison.check_trial(adaptive, params, "x")
    with pytest.raises(
        UserError, match=r"^x: budgets.schedule must be another for supervised.method=gumbel, but got ad"
    ):
        Comparison.check_trial(changed_params(adaptive, {"supervised.method": "gumbel"}, "x"), params, "x")


def test_a_launch_asks_it_of_every_arm(tmp_path, params):
    clash = {"vlm.positions": "compact", "grpo.reward.gain": 1.0}
    path = written(
        tmp_path / "toy.yaml",
        {"factors": {"f": {"odd": clash}}, "design": "grid"},
        trainable=COMPARED,
    )
    with pytest.raises(UserError, match=r"toy: arms.f=odd: vlm\.positions must be original"):
        check(load_definition(path, params), params)


def test_a_warm_up_that_nothing_reads_is_refused(tmp_path, params):
    path = written(
        tmp_path / "toy.yaml",
        {"factors": {"f": {"odd": {"grpo.start": "untrained", "warmup.steps": 9}}}, "design": "grid"},
        trainable=COMPARED,
    )
    definition = load_definition(path, params)
    assert refusals(definition, void_settings(definition, params)).startswith("toy: arms.f=odd.warmup.steps makes no")


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({BETA: 0.5}, False),
        ({"warmup.steps": 9}, True),
        ({"warmup.steps": 9, "grpo.start": "untrained"}, False),
        ({"vlm.positions": "compact"}, False),
        ({"vlm.positions": "compact", "warmup.teacher": "leave_group_out"}, True),
    ],
)
def test_a_warm_up_of_its_own_is_trained_where_it_would_be_another(params, settings, own):
    assert has_own_warmup(changed_params(params, settings, "x"), params) is own


def test_teachers_that_drop_no_token_teach_the_same_at_other_positions(params):
    from grip_core.rl.teachers import TEACHERS

    tiny = TinyComparison(params)
    context = tiny.inputs.train.context(tiny.inputs.vlm, np.arange(3))
    moved = at_positions(tiny.inputs, "compact").vlm
    same = {
        name: teacher(tiny.inputs.vlm, context).equal(teacher(moved, context)) for name, teacher in TEACHERS.items()
    }
    assert same == {"attention": True, "gradient": True, "leave_group_out": False}


def test_other_positions_are_those_of_a_vlm_that_was_opened_with_them(params):
    inputs = TinyComparison(params).inputs
    fresh = families.llava().vlm
    fresh.positions = "compact"
    scorer = make_scorer()
    moved = at_positions(inputs, "compact")
    assert moved.validation(scorer) == Validation(fresh, inputs.train, [1, 4])(scorer)
    assert moved.validation(scorer)["log_prob"] != inputs.validation(scorer)["log_prob"]
    assert inputs.vlm.positions == "original"
    assert moved.vlm.model is inputs.vlm.model


class TinyAblation(Ablation):
    """On the few examples of TinyComparison."""

    def __init__(self, params: Params) -> None:
        vars(self).update(vars(TinyComparison(params)))
        self.base, self.opened = params, self.inputs


SHORT = {
    "warmup.steps": 3,
    "warmup.prompts_per_step": 4,
    "grpo.steps": 2,
    "grpo.evaluate_every": 1,
    "grpo.checkpoint_every": 1,
    "grpo.prompts_per_step": 4,
    "grpo.group_size": 3,
    "grpo.filter.failed_with_all_tokens": False,
    "budgets.high": 12,
}


@pytest.fixture
def tiny(params, tmp_path, monkeypatch) -> TinyAblation:
    """Whose pipeline's warm-up is a scorer of another shape, so that none is taken for it."""
    make_scorer().save_pretrained(tmp_path / "pipeline" / "scorer")
    monkeypatch.setattr("studies.ablated.WARMUP", tmp_path / "pipeline")
    monkeypatch.setattr("grip_core.rl.warmup.CHECKPOINT_EVERY", 1)
    return TinyAblation(changed_params(params, {"budgets.high": 12}, "x"))


def test_an_arms_warm_up_is_trained_once_goes_on_after_a_pause_and_is_where_its_runs_start(tiny, params, tmp_path):
    arm, asked = changed_params(params, SHORT, "x"), iter([False, True])
    paused = tmp_path / "paused"
    assert tiny.advance(arm, 1, 2, paused / "seed-1", lambda: next(asked)) is None
    assert len(read_lines(paused / "warmup" / "metrics.jsonl")) == 2  # and a checkpoint of the first
    assert not (paused / "seed-1").exists()
    assert tiny.advance(arm, 1, 2, paused / "seed-1", lambda: False)
    done = (paused / "warmup" / "metrics.jsonl").stat().st_mtime_ns
    assert tiny.advance(arm, 2, 2, paused / "seed-2", lambda: False)
    assert (paused / "warmup" / "metrics.jsonl").stat().st_mtime_ns == done
    assert tiny.advance(arm, 1, 2, tmp_path / "whole" / "seed-1", lambda: False)
    hashes = {name: hash_files((tmp_path / name / "warmup" / "scorer").iterdir()) for name in ("paused", "whole")}
    assert hashes["paused"] == hashes["whole"]
    config = json.loads((paused / "seed-2" / "config.json").read_text())
    assert (config["warmup"], config["positions"]) == (hashes["paused"], "original")
    first = read_lines(paused / "seed-1" / "metrics.jsonl")[0]
    last_of_warmup = read_lines(paused / "warmup" / "metrics.jsonl")[-1]
    assert first["log_prob"] == pytest.approx(last_of_warmup["log_prob"], abs=1e-12)


def test_an_arm_without_one_starts_from_the_pipelines_at_its_own_positions(tiny, params, tmp_path):
    rows = {}
    for positions in ("original", "compact", "original"):  # a worker does one arm after the other
        short = {**SHORT, "warmup.steps": params.warmup.steps, "warmup.prompts_per_step": 32}
        arm = changed_params(params, short | {"vlm.positions": positions}, "x")
        folder = tmp_path / positions / "seed-1"
        tiny.advance(arm, 1, 2, folder, lambda: False)
        assert not (folder.parent / "warmup").exists()
        rows[positions] = read_lines(folder / "metrics.jsonl")[0], pd.read_parquet(folder / ROWS)
    fresh = families.llava().vlm
    fresh.positions = "compact"
    assert rows["compact"][0].items() >= Validation(fresh, tiny.inputs.train, [1, 4])(make_scorer()).items()
    assert not np.allclose(rows["compact"][1]["log_prob"], rows["original"][1]["log_prob"], atol=1e-6)


def test_a_later_attempt_has_the_warm_up_too(tmp_path):
    folder = StudyFolder(tmp_path)
    for name in ("seed-1", "warmup"):
        (folder.attempt(0, 1) / name).mkdir(parents=True)
        (folder.attempt(0, 1) / name / "status.json").write_text(name)
    target = carry_over(folder, 0, 2)
    assert {path.parent.name: path.read_text() for path in target.rglob("*.json")} == {
        "seed-1": "seed-1",
        "warmup": "warmup",
    }
