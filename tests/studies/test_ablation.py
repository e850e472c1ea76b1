"""Ablations: which arms follow from factors and a design, which mistakes are told, and the ones that are shipped."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import pytest
from rich.console import Console

from grip_core.config import Params
from grip_core.errors import UserError
from grip_core.rl.void import by_key
from studies.ablated import Ablation
from studies.ablation import AblationConfig, plan
from studies.definition import Definition, as_yaml, load_definition
from studies.launch import check
from studies.preview import preview
from studies.profile import Profile
from studies.settings import rescaled
from studies.space import trial_params
from studies.trainable import load_trainable
from studies.void import void_settings
from tests.studies.ablations import BETA, COMPARED, GROUP, RATE, arms, written
from tests.studies.conftest import ROOT, TOY

LOCAL = Profile(cluster="local", workers=1)
SHIPPED = sorted((ROOT / "studies" / "ablations").glob("*.yaml"))
CENTRAL = {"group_size_kl", "budget_schedule", "warmup", "distribution"}
HEADLINE = "headline"
SELECTIONS = 51200
SELECTIONS_IN_45_MINUTES = 80 * SELECTIONS  # of 65 s a run, on two cores


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
    assert rescaled(settings, by_key(params.model_dump())) == ["grpo.dead_groups", "grpo.budget_penalty"]


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
    assert {path.stem for path in SHIPPED} > {*CENTRAL, HEADLINE}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_ablation_is_sound_and_short(tmp_path, params, path):
    definition = load_definition(path, params)
    check(definition, params)
    assert not void_settings(definition, params)
    assert definition.name == path.stem
    assert definition.trainable == "studies.ablated:Ablation"
    assert definition.objectives[0].metric == "accuracy"
    assert len(definition.seeds) == (10 if path.stem == HEADLINE else 5 if path.stem in CENTRAL else 3)
    pipeline = params.grpo.steps * params.grpo.prompts_per_step * params.grpo.group_size
    assert definition.compute.selections == (pipeline if path.stem == HEADLINE else SELECTIONS)
    assert definition.compute.rungs >= params.grpo.collapse.evaluations  # or none could be seen by accuracy
    assert definition.budget.trials == len(definition.arms) >= 2
    assert len(definition.arms) * len(definition.seeds) * definition.compute.selections <= SELECTIONS_IN_45_MINUTES
    comment = " ".join(path.read_text().replace("# ", "").splitlines())
    assert f" {len(definition.arms)} arms of {len(definition.seeds)} seeds. name:" in comment
    (tmp_path / "again.yaml").write_text(as_yaml(definition))
    assert load_definition(tmp_path / "again.yaml", params) == definition


def test_no_seed_is_of_two_studies(params):
    """Runs of the default settings are one sample over all ablations, and tuning seeds are not test seeds."""
    studies = [load_definition(path, params) for path in [*SHIPPED, *(ROOT / "studies").glob("*.yaml")]]
    seeds = [seed for study in studies for seed in {*study.seeds, *(study.promote.seeds if study.promote else [])}]
    assert len(studies) == len(SHIPPED) + 2
    assert len(set(seeds)) == len(seeds)


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


def test_the_baseline_of_an_ablation_is_the_pipelines_own_run(params):
    definition = load_definition(ROOT / "studies" / "ablations" / "kl.yaml", params)
    settings = definition.arms["baseline"]
    own = trial_params(definition, params, settings)
    assert own.budgets == params.budgets
    derived = {"steps", "seeds", "evaluate_every", "checkpoint_every"}
    assert own.grpo.model_dump(exclude=derived) == params.grpo.model_dump(exclude=derived)
    assert load_trainable(definition.trainable) is Ablation
