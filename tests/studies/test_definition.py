"""Definitions: what is accepted, and what a mistake is told as."""

from __future__ import annotations

import optuna
import pytest

from grip_core.config import load
from grip_core.errors import UserError
from studies.definition import load_definition
from studies.sampling import make_pruner, make_sampler
from studies.space import check_space, in_order, suggest, trial_params
from studies.trainable import load_trainable, stages
from tests.studies.conftest import ROOT, toy

CHOICES = {"choices": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"grpo.beta": {"low": 1.0}}}, "either choices or both low and high"),
        ({"space": {"grpo.beta": {"low": 1.0, "high": 0.5}}}, "low must be below high"),
        ({"space": {"grpo.beta": {"low": 0.0, "high": 0.5, "log": True}}}, "log needs a low above 0"),
        ({"space": {}}, "space"),
        ({"name": "a/b"}, "plain file name"),
        ({"trainable": "no-colon"}, "package.module:Class"),
        ({"seeds": [11]}, "must share none"),
        ({"pruner": {"name": "wilcoxon"}}, "at least 5"),
        (
            {
                "objectives": [{"metric": m, "direction": "maximize"} for m in ("a", "b")],
                "pruner": {"name": "hyperband"},
            },
            "several objectives",
        ),
        ({"sampler": {"name": "grid"}}, "needs choices for every key"),
        ({"sampler": {"name": "grid"}, "space": {"grpo.num_iterations": CHOICES}}, "the grid's 2 points"),
        ({"lease": {"beat": 1.0, "grace": 3.0}}, "at least 4 beats"),
        ({"budget": {"trials": 0}}, "budget.trials"),
        ({"bugdet": {"trials": 1}}, "did you mean budget"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(changes, message):
    with pytest.raises(UserError, match=message) as error:
        toy(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"grpo.betta": {"low": 0.1, "high": 0.2}}}, "grpo.betta is not a key"),
        ({"space": {"grpo.learning_rate": {"low": 0.1, "high": 2.0}}}, "grpo.learning_rate.*2.0"),
        ({"space": {"grpo.steps": CHOICES}}, "follows from compute.selections"),
        ({"params": {"grpo.seeds": 3}}, "follows from seeds"),
        ({"params": {"grpo.num_iterations": 2}}, "got it in both"),
        ({"space": {"grpo.group_size": {"choices": [32, 48]}}}, "compute.selections must be a multiple"),
        ({"space": {"grpo.group_size": {"low": 8, "high": 64}}}, "needs choices"),
        ({"space": {"grpo.max_grad_norm": {"choices": [0.1], "when": {"grpo.epsilon": [0.1]}}}}, "is not searched"),
        (
            {
                "space": {
                    "grpo.num_iterations": CHOICES,
                    "grpo.max_grad_norm": {"choices": [0.1], "when": {"grpo.num_iterations": [4]}},
                }
            },
            "must hold choices",
        ),
        (
            {
                "space": {
                    "grpo.num_iterations": CHOICES | {"when": {"grpo.reward": ["correct"]}},
                    "grpo.reward": {"choices": ["correct"], "when": {"grpo.num_iterations": [1]}},
                }
            },
            "in a circle",
        ),
    ],
)
def test_a_space_is_checked_against_the_params_schema(params, changes, message):
    with pytest.raises(UserError, match=message):
        check_space(toy(**changes), params)


def test_the_shipped_search_is_valid_and_gives_every_trial_the_same_selections():
    definition, params = load_definition(ROOT / "studies" / "search.yaml"), load(ROOT / "params.yaml")
    check_space(definition, params)
    study = optuna.create_study(sampler=make_sampler(definition, 0), pruner=make_pruner(definition))
    seen = set()
    for _ in range(20):
        grpo = trial_params(definition, params, suggest(study.ask(), definition)).grpo
        rollouts = grpo.steps // grpo.num_iterations
        assert rollouts * grpo.prompts_per_step * grpo.group_size == definition.compute.selections
        seen.add((grpo.group_size, grpo.num_iterations))
    assert len(seen) > 5


def test_a_conditional_key_is_drawn_only_under_its_condition():
    space = {
        "grpo.epsilon": {"low": 0.1, "high": 0.4, "when": {"grpo.num_iterations": [2]}},
        "grpo.num_iterations": CHOICES,
    }
    definition = toy(space=space)
    assert in_order(definition.space) == ["grpo.num_iterations", "grpo.epsilon"]
    study = optuna.create_study(sampler=make_sampler(definition, 0))
    drawn = [suggest(study.ask(), definition) for _ in range(20)]
    assert {settings["grpo.num_iterations"] for settings in drawn} == {1, 2}
    assert all(("grpo.epsilon" in settings) == (settings["grpo.num_iterations"] == 2) for settings in drawn)


def test_the_model_of_a_conditional_space_covers_the_conditional_keys():
    """Optuna's defaults would model the shared keys alone and draw the others blindly."""
    space = {
        "grpo.num_iterations": CHOICES,
        "grpo.epsilon": {"low": 0.1, "high": 0.9, "when": {"grpo.num_iterations": [2]}},
    }
    definition = toy(space=space, sampler={"name": "tpe", "startup_trials": 10})
    study = optuna.create_study(direction="maximize")
    for number in range(60):
        study.sampler = make_sampler(definition, number)
        trial = study.ask()
        settings = suggest(trial, definition)
        study.tell(trial, -abs(float(settings.get("grpo.epsilon", 5.0)) - 0.3))
    late = [trial.params["grpo.epsilon"] for trial in study.trials[30:] if "grpo.epsilon" in trial.params]
    assert len(late) > 20
    assert sum(abs(value - 0.3) < 0.1 for value in late) > len(late) / 2  # a quarter of the range, drawn blindly


def test_trials_draw_from_streams_of_their_own(params):
    definition = toy(sampler={"name": "random"})

    def draw(number: int) -> float:
        return float(
            suggest(optuna.create_study(sampler=make_sampler(definition, number)).ask(), definition)[
                "grpo.learning_rate"
            ]
        )

    assert draw(3) == draw(3)
    assert len({draw(number) for number in range(5)}) == 5


def test_stages_advance_all_seeds_rung_by_rung(params):
    definition = toy()
    found = stages(definition, trial_params(definition, params, {"grpo.num_iterations": 2}))
    assert [stage.step for stage in found] == [4, 8, 12, 16, 20]
    assert [stage.reported_at for stage in found] == [1024, 2048, 3072, 4096, 5120]
    assert all(stage.seeds == (1, 2) for stage in found)


def test_wilcoxon_sees_one_finished_seed_after_the_other(params):
    definition = toy(pruner={"name": "wilcoxon"}, seeds=[1, 2, 3, 4, 5])
    found = stages(definition, trial_params(definition, params, {}))
    assert [(stage.seeds, stage.step, stage.reported_at) for stage in found] == [
        ((seed,), 10, seed - 1) for seed in range(1, 6)
    ]


@pytest.mark.parametrize("path", ["no.such:Thing", "studies.trainable:Missing", "studies.trainable:stages"])
def test_a_trainable_that_is_no_class_is_refused(path):
    with pytest.raises(UserError, match="must name a class"):
        load_trainable(path)
