"""Ablations: which arms factors become, that the shipped ones are sound, and what a finished one exports."""

from __future__ import annotations

import gc
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from grip_core.config import Params, load
from grip_core.errors import UserError
from grip_core.evaluation.exports import CURVES, RUNS, AblationExport, read_ablation, write_export
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder, hash_files
from studies import launch as launching
from studies.ablated import Ablation, at_positions, has_own_warmup
from studies.ablation import AblationConfig, plan
from studies.ablation_tables import curves, tables
from studies.answers import export_answers
from studies.claims import carry_over
from studies.comparison import ROWS, Comparison
from studies.definition import Definition, as_yaml, load_definition
from studies.folder import StudyFolder, read_lines
from studies.launch import check, launch
from studies.preview import preview
from studies.profile import Profile
from studies.settings import by_key, changed_params, rescaled
from studies.space import trial_params
from studies.trainable import load_trainable
from studies.training import OPENED
from studies.void import refusals, void_settings
from studies.worker import work
from tests.conftest import _llava
from tests.rl.conftest import make_scorer
from tests.studies.conftest import ROOT, TOY, toy
from tests.studies.test_arms import TINY
from tests.studies.tiny import TinyComparison

LOCAL = Profile(cluster="local", workers=1)
SHIPPED = sorted((ROOT / "studies" / "ablations").glob("*.yaml"))
CENTRAL = {"group_size_kl", "budget_schedule", "warmup", "distribution"}
RUNS_IN_45_MINUTES = 54  # of 100 s, on two cores
STUDY = {key: value for key, value in TOY.items() if key not in ("space", "sampler", "pruner", "budget", "promote")}
COMPARED = "studies.ablated:Ablation"
GROUP, BETA, RATE = "grpo.group_size", "grpo.beta", "grpo.learning_rate"


def arms(params: Params, factors: dict[str, Any], design: str, own: Any = None, **more: Any) -> dict[str, Any]:
    """Settings of every arm, by its name."""
    config = AblationConfig(factors=factors, design=design, **more)  # type: ignore[arg-type]
    return {arm.name: arm.settings for arm in plan(config, own or {}, params, "x").arms}


def written(path: Path, ablation: dict[str, Any], **changes: Any) -> Path:
    """The toy study of an ablation, as a file."""
    path.write_text(yaml.safe_dump(STUDY | {"params": {}, "ablation": ablation} | changes, sort_keys=False))
    return path


# Expansion ------------------------------------------------------------------------------------------------------------


def test_one_factor_at_a_time(params):
    factors = {GROUP: [8, 32], "loss": {"plain": {}, "wide": {"grpo.loss_type": "dapo", "grpo.std_floor": 0.5}}}
    assert arms(params, factors, "one_at_a_time") == {
        "baseline": {},
        "group_size=8": {GROUP: 8},
        "loss=wide": {"grpo.loss_type": "dapo", "grpo.std_floor": 0.5},
    }


def test_a_grid_has_the_baseline_first_whether_its_values_are_listed_or_not(params):
    found = arms(params, {GROUP: [8, 16], BETA: [0.1, 0.01]}, "grid")  # params.yaml has 32 and 0.01
    assert found == {
        "baseline": {},
        "beta=0.1": {BETA: 0.1},
        "group_size=8, beta=0.1": {GROUP: 8, BETA: 0.1},
        "group_size=8": {GROUP: 8},
        "group_size=16, beta=0.1": {GROUP: 16, BETA: 0.1},
        "group_size=16": {GROUP: 16},
    }
    assert next(iter(found)) == "baseline"


def test_the_studys_own_params_are_the_baseline(params):
    assert arms(params, {GROUP: [8, 32]}, "grid", {GROUP: 8}) == {"baseline": {}, "group_size=32": {GROUP: 32}}


def test_the_half_fraction_has_an_even_number_of_factors_off_the_baseline(params):
    factors = {GROUP: [8, 32], BETA: [0.01, 0.1], "grpo.baseline": ["mean", "leave_one_out"]}
    assert list(arms(params, factors, "fractional")) == [
        "baseline",
        "beta=0.1, baseline=leave_one_out",
        "group_size=8, baseline=leave_one_out",
        "group_size=8, beta=0.1",
    ]


@pytest.mark.parametrize(("factors", "levels"), [(3, 3), (4, 2), (4, 3)])
def test_a_fraction_is_an_orthogonal_array(params, factors, levels):
    keys = [BETA, "grpo.entropy_coef", "grpo.std_floor", "grpo.max_grad_norm"][:factors]
    given = {key: {"own": {}} | {str(j): {key: 0.1 * j} for j in range(1, levels)} for key in keys}
    points = [arm.levels for arm in plan(AblationConfig(factors=given, design="fractional"), {}, params, "x").arms]
    assert len(points) == levels ** (factors - 1)
    for some in itertools.combinations(given, factors - 1):
        assert set(Counter(tuple(point[name] for name in some) for point in points).values()) == {1}


def test_what_cannot_matter_under_another_level_is_one_arm(params):
    clip = {"tight": {"grpo.epsilon": 0.1, "grpo.epsilon_high": 0.1}}
    assert list(arms(params, {"grpo.num_iterations": [1, 2], "clip": clip}, "grid")) == [
        "baseline",
        "num_iterations=2",
        "num_iterations=2, clip=tight",
    ]
    estimator = {"reward": {"grpo.kl_estimator": "k1", "grpo.kl_placement": "reward"}}
    assert list(arms(params, {BETA: [0.0, 0.01], "kl": estimator}, "grid")) == ["baseline", "kl=reward", "beta=0.0"]
    with pytest.raises(
        UserError,
        match=r"x: ablation: factors.clip: the level tight makes no difference in any arm: .*remove the level$",
    ):
        arms(params, {GROUP: [8, 32], "clip": clip}, "grid")


@pytest.mark.parametrize(
    ("factors", "names"),
    [
        (
            {"grpo.start": ["warmup", "untrained"], "warmup.steps": [1500, 150]},
            ["baseline", "steps=150", "start=untrained"],
        ),
        (
            {BETA: [0.01, 0.1], "supervised.method": ["none", "distill"]},
            ["baseline", "method=distill", "beta=0.1"],
        ),
        (
            {"supervised.method": ["none", "distill"], "supervised.sharpness": [2.0, 4.0]},
            ["baseline", "method=distill", "method=distill, sharpness=4.0"],
        ),
    ],
)
def test_what_another_principle_or_start_reads_is_one_arm_too(tmp_path, params, factors, names):
    path = written(tmp_path / "toy.yaml", {"factors": factors, "design": "grid"}, trainable=COMPARED)
    definition = load_definition(path, params)
    assert list(definition.arms) == names
    assert not [item for item in void_settings(definition, params) if item.severity == "refuse"]


def test_a_level_that_no_arm_reads_is_refused(params):
    with pytest.raises(
        UserError, match=r"level 9.0 makes no difference in any arm: .* does not read it; remove the level$"
    ):
        arms(params, {GROUP: [8, 32], "supervised.temperature": [9.0]}, "grid")


@pytest.mark.parametrize(
    ("design", "told"),
    [
        ("grid", [(f"f=mixed, method=distill.{BETA}", "take it out of that level, or take design one_at_a_time")]),
        ("one_at_a_time", []),
    ],
)
def test_a_void_key_beside_a_live_one_is_refused_with_what_an_ablation_can_do(tmp_path, params, design, told):
    factors = {"f": {"mixed": {BETA: 0.1, "budgets.low": 2}}, "supervised.method": ["none", "distill"]}
    path = written(tmp_path / "toy.yaml", {"factors": factors, "design": design}, trainable=COMPARED)
    definition = load_definition(path, params)
    refused = [item for item in void_settings(definition, params) if item.severity == "refuse"]
    assert [(item.key, item.remedy) for item in refused] == told


def test_arms_of_another_gradient_scale_are_run_at_matched_rates_and_the_baseline_with_them(params):
    factors = {"grpo.scale_rewards": ["group", "none"], BETA: [0.01, 0.1]}
    found = arms(params, factors, "one_at_a_time", learning_rates=[0.0005, 0.001])  # the first is params.yaml's
    assert found == {
        "baseline": {},
        "baseline @ lr=0.001": {RATE: 0.001},
        "scale_rewards=none": {"grpo.scale_rewards": "none"},
        "scale_rewards=none @ lr=0.001": {"grpo.scale_rewards": "none", RATE: 0.001},
        "beta=0.1": {BETA: 0.1},
    }


def test_keys_that_multiply_the_gradient_beside_what_they_are_for_are_known(params):
    settings = {"grpo.dead_groups": "drop", "grpo.budget_penalty": 2.0, BETA: 0.1, "grpo.std_floor": 0.0}
    assert rescaled(settings, by_key(params)) == ["grpo.dead_groups", "grpo.budget_penalty"]


@pytest.mark.parametrize(
    ("ablation", "message"),
    [
        ({"factors": {}, "design": "grid"}, "ablation: factors: dictionary should have at least 1 item"),
        ({"factors": {GROUP: 8}, "design": "grid"}, "a factor must be a list of values, or labels with the settings"),
        ({"factors": {GROUP: [8, 8]}, "design": "grid"}, "no value may come twice"),
        ({"factors": {GROUP: [32]}, "design": "grid"}, "must have a level that differs from params.yaml"),
        ({"factors": {"group": [8, 32]}, "design": "grid"}, "lists values, so it must be a key of params.yaml"),
        ({"factors": {"f": {"a": {BETA: 0.1}, "b": {BETA: 0.1}}}, "design": "grid"}, "a and b have the same settings"),
        ({"factors": {"f": {"baseline": {BETA: 0.1}}}, "design": "grid"}, "the level baseline must change nothing"),
        ({"factors": {BETA: [0.1], "f": {"a": {BETA: 1.0}}}, "design": "grid"}, "both set grpo.beta"),
        ({"factors": {GROUP: [8]}, "design": "half"}, "ablation: design: .*'half'"),
        ({"factors": {GROUP: [8], BETA: [0.1]}, "design": "fractional"}, "needs three or more factors"),
        (
            {"factors": {GROUP: [8], BETA: [0.1], "grpo.entropy_coef": [0.1, 0.2]}, "design": "fractional"},
            "entropy_coef with 3; take grid",
        ),
        ({"factors": {GROUP: [8]}, "design": "grid", "learning_rates": [0.1]}, "and there are none; remove them"),
        (
            {"factors": {RATE: [0.1], "grpo.std_floor": [1.0]}, "design": "grid", "learning_rates": [0.1]},
            "learning_rates go with factors that do not set grpo.learning_rate, but grpo.learning_rate does",
        ),
        (
            {"factors": {"f": {"a": {RATE: 0.1, "grpo.std_floor": 1.0}}}, "design": "grid", "learning_rates": [0.1]},
            "do not set grpo.learning_rate, but f does",
        ),
        (
            {"factors": {BETA: [0.0, "1e-3"]}, "design": "grid"},
            r"grpo\.beta: the level 1e-3: grpo\.beta: .* write 0.001",
        ),
        (
            {"factors": {"f": {"two": {"budgets.schedule": "mixture", "budgets.values": [1, 4]}}}, "design": "grid"},
            "factors.f: the level two: budgets: weights must be one for each of the 2 values",
        ),
        ({"factors": {"grpo.num_iterations": [2, 0]}, "design": "grid"}, "the level 0: grpo.num_iterations: input"),
        ({"factors": {"f": {"a": {"grpo.betta": 1.0}}}, "design": "grid"}, "the level a: grpo.betta is not a key"),
        ({"factors": {GROUP: [8]}, "desing": "grid"}, "did you mean design"),
    ],
)
def test_a_mistake_in_an_ablation_is_named(tmp_path, params, ablation, message):
    with pytest.raises(UserError, match=message) as error:
        load_definition(written(tmp_path / "toy.yaml", ablation), params)
    assert str(error.value).startswith(str(tmp_path / "toy.yaml"))
    assert len(str(error.value).splitlines()) == 1 + ("desing" in ablation)  # which lacks a key too


def test_an_ablation_excludes_a_space_and_other_arms(tmp_path, params):
    path, ablation = tmp_path / "toy.yaml", {"factors": {BETA: [0.1]}, "design": "grid"}
    with pytest.raises(UserError, match="got space and ablation"):
        load_definition(written(path, ablation, space=TOY["space"]), params)
    with pytest.raises(UserError, match="remove arms"):
        load_definition(written(path, ablation, arms={"mine": {}}), params)
    with pytest.raises(UserError, match=r"toy\.yaml: params: grpo\.beta: .*, but got 'a'$"):
        load_definition(written(path, ablation, params={BETA: "a"}), params)


def test_a_level_with_two_mistakes_has_a_line_for_each(params):
    with pytest.raises(UserError) as error:
        arms(params, {"f": {"odd": {BETA: "a", GROUP: 1}}}, "grid")
    keys = [line.split(":")[4].strip() for line in str(error.value).splitlines()]
    assert (keys, str(error.value).count("x: ablation: factors.f: the level odd: ")) == ([GROUP, BETA], 2)


def test_an_ablation_must_end_with_answers(tmp_path, params):
    ablation = {"factors": {BETA: [0.1]}, "design": "grid"}
    check(load_definition(written(tmp_path / "toy.yaml", ablation, trainable=COMPARED), params), params)
    path = written(tmp_path / "toy.yaml", ablation, trainable="studies.training:Training")
    with pytest.raises(UserError, match=r"but got studies.training:Training; set trainable: studies.ablated:Ablation"):
        check(load_definition(path, params), params)


# Shipped --------------------------------------------------------------------------------------------------------------


def test_the_central_ones_are_shipped():
    assert {path.stem for path in SHIPPED} > CENTRAL


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_ablation_is_sound_and_short(tmp_path, params, path):
    definition = load_definition(path, params)
    check(definition, params)
    assert not void_settings(definition, params)
    assert definition.name == path.stem
    assert definition.trainable == "studies.ablated:Ablation"
    assert definition.objectives[0].metric == "accuracy"
    assert definition.seeds == list(range(10, 15 if path.stem in CENTRAL else 13))
    assert definition.compute.selections == 51200
    assert definition.compute.rungs >= params.grpo.collapse.evaluations  # or none could be seen by accuracy
    assert definition.budget.trials == len(definition.arms) >= 2
    assert len(definition.arms) * len(definition.seeds) <= RUNS_IN_45_MINUTES
    comment = " ".join(path.read_text().replace("# ", "").splitlines())
    assert f" {len(definition.arms)} arms of {len(definition.seeds)} seeds. name:" in comment
    (tmp_path / "again.yaml").write_text(as_yaml(definition))
    assert load_definition(tmp_path / "again.yaml", params) == definition


def shown(definition: Definition, params: Params) -> str:
    text = io.StringIO()
    preview(Console(file=text, width=400), ROOT / "none", definition, params, LOCAL)
    return text.getvalue()


def test_a_preview_tells_of_gradients_of_another_scale(tmp_path, params, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no features lie
    factors = {"scaling": {"none": {"grpo.scale_rewards": "none"}}, GROUP: [8]}
    path = written(tmp_path / "toy.yaml", {"factors": factors, "design": "one_at_a_time"}, trainable=COMPARED)
    told = "gradient scale differs: compare with matched learning rates: scaling=none\n"
    assert told in shown(load_definition(path, params), params)
    matched = load_definition(ROOT / "studies" / "ablations" / "advantage_scaling.yaml", params)
    told = "matched at learning rates [0.00025, 0.001]: scaling=batch; scaling=none; scaling=floor\n"
    assert told in shown(matched, params)
    assert "gradient" not in shown(load_definition(ROOT / "studies" / "ablations" / "group_size.yaml", params), params)


# Arms with a warm-up or positions of their own ------------------------------------------------------------------------


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
    fresh = _llava().vlm
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
    fresh = _llava().vlm
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


# From a launch to an export -------------------------------------------------------------------------------------------


WHOLE = {"compute": {"selections": 48, "rungs": 1}}  # 4 steps at a stretch


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[tuple[StudyFolder, Path]]:
    """A tiny ablation that this process has worked on, and its export."""
    root, few = tmp_path_factory.mktemp("ablation"), {"evaluate.budgets": [1, 7]}
    params = changed_params(load(ROOT / "params.yaml"), few, "x")
    ablation = {
        "factors": {"grpo.scale_rewards": ["group", "none"]},
        "design": "grid",
        "learning_rates": [0.01],
    }
    definition = load_definition(written(root / "toy.yaml", ablation, **TINY | WHOLE), params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(launching, "submit", lambda *_: [])
        launch(root, definition, params, LOCAL, None, [])
        folder = StudyFolder(root / "toy")
        gc.freeze()  # transformers collects at every start
        assert work(folder, lambda: False) == "all 4 trials have begun"
        gc.unfreeze()
        yield folder, export_answers(folder, root / "export")


@pytest.fixture(scope="module")
def exported(finished) -> AblationExport:
    return read_ablation(finished[1])


ARMS = ["baseline", "baseline @ lr=0.01", "scale_rewards=none", "scale_rewards=none @ lr=0.01"]


@pytest.mark.slow
def test_an_exports_manifest_says_where_every_arm_stands(exported):
    manifest = exported.manifest
    assert manifest["ablation"] == {
        "factors": {"grpo.scale_rewards": ["group", "none"]},
        "baseline": "baseline",
        "design": "grid",
        "learning_rates": [0.01],
        "missing": [],
    }
    assert {arm: (item["levels"], item["learning_rate"]) for arm, item in manifest["arms"].items()} == {
        name: ({"grpo.scale_rewards": label}, rate)
        for name, label, rate in zip(ARMS, ["group", "group", "none", "none"], [None, 0.01, None, 0.01])
    }
    assert manifest["definition"]["ablation"]["design"] == "grid"
    assert set(exported.answers["method"]) == set(ARMS)


def run_of(folder: StudyFolder, arm: str, seed: int) -> Path:
    """Arms are taken in their order."""
    return folder.newest_run(ARMS.index(arm), seed)


@pytest.mark.slow
def test_curves_have_every_runs_numbers(finished, exported):
    table, (folder, _) = exported.curves, finished
    assert len(table.drop_duplicates(["arm", "seed", "step", "metric"])) == len(table)
    for arm, seed in itertools.product(ARMS, (1, 2)):
        lines = read_lines(run_of(folder, arm, seed) / "metrics.jsonl")
        own = table[(table["arm"] == arm) & (table["seed"] == seed)]
        assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
        for metric, steps in {"kl": [1, 2, 3, 4], "scored": [1, 2, 3, 4], "accuracy@4": [0, 4]}.items():
            part = own[own["metric"] == metric]
            assert part["step"].tolist() == steps
            assert part["value"].tolist() == [np.float32(lines[step][metric]) for step in steps]
    assert not [name for name in table["metric"].unique() if "/" in name or name.startswith("sampled")]


def test_a_metric_that_a_step_lacks_has_no_row():
    lines = {("a", 0): [{"step": 0, "accuracy": 0.5}, {"step": 1, "kl": 0.1, "accuracy/b": 1.0}]}
    assert curves(lines)[["step", "metric"]].to_numpy().tolist() == [[0, "accuracy"], [1, "kl"]]


@pytest.mark.slow
def test_agreement_is_the_mean_overlap_of_what_two_seeds_keep(finished, exported):
    table, (folder, _) = exported.agreement, finished
    kept = [pd.read_parquet(run_of(folder, ARMS[1], seed) / ROWS) for seed in (1, 2)]
    for k in sorted(set(kept[0]["k"])):
        sets = [[set(tokens) for tokens in rows[rows["k"] == k]["kept"]] for rows in kept]  # in one order of questions
        mean = np.mean([len(one & other) / len(one | other) for one, other in zip(*sets, strict=True)])
        found = table[(table["arm"] == ARMS[1]) & (table["k"] == k)]
        assert found[["seed_a", "seed_b"]].to_numpy().tolist() == [[1, 2]]
        assert found["jaccard"].item() == pytest.approx(mean, abs=1e-6)
    assert len(table) == len(ARMS) * kept[0]["k"].nunique()
    assert (table["jaccard"] < 1).any()


@pytest.mark.slow
def test_runs_tell_how_they_ended(finished, exported):
    folder, _ = finished
    for row in exported.runs.itertuples():
        run = run_of(folder, row.arm, row.seed)
        last = read_lines(run / "metrics.jsonl")[-1]
        assert (row.steps, row.accuracy) == (4, np.float32(last["accuracy"]))
        assert row.collapsed == (run / "collapse.json").exists()
    assert len(exported.runs) == 8


def test_a_collapse_is_told_with_its_step_and_cause(tmp_path):
    for seed in (0, 1):
        run = RunFolder(tmp_path / str(seed), {})
        for step in (0, 30):
            run.append_metrics({"step": step, "accuracy": 0.5})
        if seed == 1:
            run.set_collapse(20, "accuracy")
    answer = {"benchmark": "b", "example_id": "q", "method": "a", "k": 1, "kept": np.array([0])}
    rows = pd.DataFrame([answer | {"seed": seed} for seed in (0, 1)])
    whole, broken = tables({("a", seed): tmp_path / str(seed) for seed in (0, 1)}, rows)[RUNS].itertuples()
    assert (broken.collapsed, broken.collapse_step, broken.cause) == (True, 20.0, "accuracy")
    assert (whole.collapsed, np.isnan(whole.collapse_step), whole.cause) == (False, True, "")


@pytest.mark.slow
def test_arms_that_other_code_would_make_are_not_exported_as_those_that_were_run(finished, tmp_path, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr("studies.answers.plan", lambda *given: replace(made := plan(*given), arms=made.arms[:-1]))
    with pytest.raises(UserError, match=rf"toy: .* others of it \({re.escape(ARMS[-1])}\); .*PYTHONPATH={folder.path}"):
        export_answers(folder, tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_without_answers_are_not_exported(tmp_path, params, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launching, "submit", lambda *_: [])
    definition = toy(space={}, sampler={"name": "grid"}, promote=None, arms={"own": {}}, budget={"trials": 1})
    launch(tmp_path, definition, params, LOCAL, None, [])
    folder = StudyFolder(tmp_path / "toy")
    work(folder, lambda: False)
    with pytest.raises(UserError, match=r"tests\.studies\.toys:Walk has written no rows\.parquet; leave --answers out"):
        export_answers(folder, tmp_path / "out")


@pytest.mark.slow
def test_an_export_that_is_damaged_or_no_ablation_is_refused(finished, tmp_path):
    _, export = finished
    whole = (export / CURVES).read_bytes()
    (export / CURVES).write_bytes(whole + b" ")
    with pytest.raises(UserError, match=r"curves\.parquet must have the sha256 of its manifest"):
        read_ablation(export)
    (export / CURVES).unlink()
    with pytest.raises(UserError, match=r"there is no curves\.parquet"):
        read_ablation(export)
    (export / CURVES).write_bytes(whole)
    row = {"benchmark": "b", "example_id": "q", "image_id": 0, "method": "a", "seed": 0, "k": 1, "correct": True}
    write_export(tmp_path, pd.DataFrame([row]), {"hashes": {}})
    with pytest.raises(UserError, match="no ablation"):
        read_ablation(tmp_path)


def test_the_baseline_of_an_ablation_is_the_pipelines_own_run(params):
    definition = load_definition(ROOT / "studies" / "ablations" / "kl.yaml", params)
    settings = definition.arms["baseline"]
    own = trial_params(definition, params, settings)
    assert own.budgets == params.budgets
    derived = {"steps", "seeds", "evaluate_every", "checkpoint_every"}
    assert own.grpo.model_dump(exclude=derived) == params.grpo.model_dump(exclude=derived)
    assert load_trainable(definition.trainable) is Ablation
