"""What is told of void settings, and of those that are nearly so."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from grip_core.config import BudgetConfig, GrpoConfig
from grip_core.rl.void import Axis
from grip_core.rl.void_rules import RULES, TRAPS
from grip_core.seeds import numpy_random
from tests.rl.void_cases import (
    BASE,
    CLIPPED,
    DRAWN,
    FIXED,
    OFF_POLICY,
    SIZES_VARY,
    STAGED,
    TRAINED,
    WATCHED,
    findings,
    level,
    loss,
    named,
    refused,
)


@named(TRAINED | DRAWN | CLIPPED | WATCHED)
def test_void_arms_are_refused_and_others_are_not(case):
    for key in case.first:
        values = (case.first[key], case.second[key])
        assert refused({key: values}, case.inside)
        if key != "grpo.checkpoint_every":  # void everywhere
            assert not refused({key: values}, case.outside)


def test_every_exact_rule_has_a_case():
    used = {
        rule
        for case in (TRAINED | DRAWN | CLIPPED | WATCHED).values()
        for rule in RULES
        for key in set(rule.keys) & set(case.first)
        if (image := rule.image(BASE | case.inside, case.first[key])) is not None
        and image == rule.image(BASE | case.inside, case.second[key])
    }
    assert not {rule.reason for rule in RULES if rule.exact} - {rule.reason for rule in used}


def test_rules_read_what_they_say_and_nothing_else():
    """Another key would be missed when the combinations of a space are gone through."""
    options = {key: _options(key) for key in BASE}
    random = numpy_random(0, "settings")
    for _ in range(300):
        settings = {key: values[random.randint(len(values))] for key, values in options.items()}
        for rule in RULES:
            assert not set(rule.keys) & set(rule.reads)
            for key in rule.keys:
                rule.image({name: settings[name] for name in rule.reads}, settings[key])
        for trap in TRAPS:
            trap.caught({name: settings[name] for name in trap.reads}, settings[trap.key])


def _options(key: str) -> list[Any]:
    section, name = {"grpo": GrpoConfig, "budgets": BudgetConfig}[key.split(".")[0]], key.split(".")[1]
    value = BASE[key]
    if isinstance(value, bool):
        return [False, True]
    if isinstance(value, str):
        return list(get_args(section.model_fields[name].annotation))
    return [value] if isinstance(value, list) else [1, 2, value] if isinstance(value, int) else [0.0, 1.0, value]


def test_what_is_void_in_a_part_of_the_space_gets_the_condition_that_leaves_it_out():
    space = {"grpo.num_iterations": (1, 2, 4), "grpo.loss_type": ("grpo", "vespo"), "grpo.epsilon": (0.1, 0.3)}
    (finding,) = (item for item in findings(space) if item.key == "grpo.epsilon")
    assert finding.severity == "warn"
    assert finding.where == "where grpo.loss_type is vespo or grpo.num_iterations is 1"
    when = {"grpo.loss_type": ["grpo"], "grpo.num_iterations": [2, 4]}
    assert finding.remedy == "search it only `when: {grpo.loss_type: [grpo], grpo.num_iterations: [2, 4]}`"
    assert not [
        item for item in findings(space | {"grpo.epsilon": Axis((0.1, 0.3), when=when)}) if item.key == "grpo.epsilon"
    ]


def test_a_condition_that_a_key_has_already_is_kept():
    space = {
        "grpo.num_iterations": (1, 2),
        "budgets.schedule": ("linear", "uniform"),
        "budgets.direction": Axis(("high_to_low", "low_to_high"), when={"grpo.num_iterations": [2]}),
    }
    (finding,) = findings(space)
    assert finding.remedy == "search it only `when: {grpo.num_iterations: [2], budgets.schedule: [linear]}`"


def test_where_a_key_is_searched_only_in_void_combinations_it_is_refused():
    """And a key that is not searched has the value of params.yaml."""
    space = {
        "grpo.num_iterations": (1, 2),
        "grpo.epsilon": Axis((0.1, 0.3), when={"grpo.num_iterations": [1]}),
    }
    assert refused(space, OFF_POLICY)


def test_a_condition_that_would_leave_out_more_is_not_offered():
    """A key that is not searched somewhere has no values there that a condition could name."""
    space = {
        "budgets.schedule": ("linear", "uniform"),
        "grpo.num_iterations": Axis((1, 2), when={"budgets.schedule": ["linear"]}),
        "grpo.epsilon": (0.1, 0.3),
    }
    (finding,) = findings(space)  # one update where the schedule is uniform
    when = "search it only `when: {budgets.schedule: [linear], grpo.num_iterations: [2]}`"
    assert (finding.severity, finding.remedy) == ("warn", when)
    (finding,) = findings(space, **OFF_POLICY)  # two updates there
    assert (finding.where, finding.remedy) == ("where grpo.num_iterations is 1", "their trials are repetitions")


def test_where_no_value_decides_combinations_are_counted():
    space = {"grpo.kl_estimator": ("k1", "k2"), "grpo.kl_placement": ("loss", "reward"), "grpo.beta": (0.1, 0.2)}
    (finding,) = (item for item in findings(space) if item.key == "grpo.beta")
    assert finding.where == "in 1 of 4 combinations of grpo.kl_estimator and grpo.kl_placement"


def test_equal_arms_among_others_are_named():
    losses = ("grpo", "bnpo", "sapo", "dapo", "luspo")
    told = findings({"grpo.loss_type": losses, "grpo.learning_rate": (0.1, 0.2)})
    assert [(item.severity, item.values) for item in told] == [
        ("refuse", ("grpo", "sapo")),
        ("refuse", ("bnpo", "dapo")),
    ]
    assert all(item.remedy == "keep one of them" for item in told)
    assert str(told[0]).startswith("grpo.loss_type = grpo or sapo makes no difference: ")


def test_a_range_has_no_condition_to_offer():
    space = {"budgets.low": Axis((1, 6, 12), finite=False), "budgets.direction": ("high_to_low", "low_to_high")}
    (finding,) = findings(space, **STAGED)
    assert finding.where == "where budgets.low is 12"
    assert finding.remedy == "their trials are repetitions"


@pytest.mark.parametrize(
    ("space", "changes", "values"),
    [
        ({"grpo.scale_rewards": ("group", "none")}, {}, ("none",)),
        ({"grpo.scale_rewards": ("group", "batch")}, {}, None),
        ({"grpo.scale_rewards": ("group", "none"), "grpo.learning_rate": (0.1, 0.2)}, {}, None),
        ({"grpo.loss_type": ("grpo", "luspo")}, level("sequence"), ("luspo",)),
        ({"grpo.loss_type": ("grpo", "dr_grpo")}, {}, ("dr_grpo",)),
        ({"grpo.loss_type": ("grpo", "dr_grpo"), "grpo.learning_rate": (0.1, 0.2)}, {}, None),
        ({"grpo.kl_estimator": ("k1", "k2", "k3")}, {}, ("k1",)),
        ({"grpo.kl_placement": ("loss", "reward")}, {"grpo.kl_estimator": "k1"}, ("loss",)),
        ({"grpo.reward.gain": (0.0, 1.0), "grpo.reward.log_prob": (0.5, 1.0)}, {"grpo.reward.correct": 1.0}, (1.0,)),
        ({"grpo.reward.gain": (0.0, 1.0)}, {"grpo.reward.correct": 1.0}, None),
    ],
)
def test_arms_that_change_something_else_are_warned_of(space, changes, values):
    assert [item.values for item in findings(space, **changes)] == ([] if values is None else [values])


NEARLY = [
    ({"grpo.baseline": ("mean", "leave_one_out")}, {}, None),
    ({"grpo.beta": (0.1, 0.2)}, {"grpo.kl_estimator": "k1"}, {"grpo.kl_estimator": "k2"}),
    ({"grpo.loss_type": ("grpo", "dr_grpo")}, FIXED, None),
    ({"grpo.loss_type": ("dr_grpo", "luspo"), "grpo.learning_rate": (0.1, 0.2)}, {}, None),
    ({"grpo.distribution": ("plackett_luce", "conditional_bernoulli")}, FIXED | {"budgets.constant": 1}, FIXED),
    ({"grpo.dead_groups": ("keep", "drop")}, {"grpo.beta": 0.0, "grpo.min_std": 0.1}, {"grpo.min_std": 0.1}),
    ({"grpo.dead_groups": ("keep", "resample")}, {}, {"grpo.min_std": 0.1}),
    ({"grpo.reward.log_prob": (1.0, 2.0)}, {}, {"grpo.reward.correct": 1.0}),
    ({"grpo.reward.gain": (0.0, 2.0)}, {"grpo.scale_rewards": "none"}, {"grpo.kl_placement": "reward"}),
    ({"grpo.reward.correct": (1.0, 2.0)}, {"grpo.reward.log_prob": 0.0}, {}),
    ({"grpo.reward.log_prob": (1.0, 2.0)}, SIZES_VARY | {"grpo.budget_penalty": 0.0}, SIZES_VARY),
    ({"grpo.reward.log_prob": (1.0, 2.0)}, {}, {"grpo.std_floor": 0.1}),
    ({"budgets.high": (12, 24)}, FIXED | loss("dr_grpo"), loss("dr_grpo")),
]


@pytest.mark.parametrize(("space", "inside", "outside"), NEARLY)
def test_arms_that_are_nearly_the_same_are_warned_of(space, inside, outside):
    (finding,) = findings(space, **inside)
    assert finding.severity == "warn"
    assert "hardly a difference" in finding.reason
    if outside is not None:
        assert not [item for item in findings(space, **outside) if "hardly" in item.reason]
