"""Void settings: what is told of them, and that the trainer bears it out.

A case has two arms that differ in settings which the rules call void under `inside` and which matter under `outside`.
Both pairs are trained.
"""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import PrinterCallback
from transformers.trainer_utils import SaveStrategy

from grip_core.config import BudgetConfig, GrpoConfig
from grip_core.policy.budgets import make_schedule
from grip_core.policy.conditional_bernoulli import ConditionalBernoulli
from grip_core.policy.distribution import Picks
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.rl.rewards import Scored, reward
from grip_core.rl.train import Task, build_trainer, train
from grip_core.rl.void import Axis, Finding, settings_of, void_findings
from grip_core.rl.void_rules import RULES, TRAPS
from grip_core.runs import RunFolder
from grip_core.seeds import numpy_random, torch_generator
from grip_core.vlm.frozen import AnswerScores
from tests.rl.conftest import make_budgets, make_grpo, make_scorer

Settings = Mapping[str, Any]
BASE = settings_of(make_grpo(), make_budgets())


@dataclass(frozen=True)
class Case:
    """Arms `first` and `second` have the same keys."""

    first: Settings
    second: Settings
    inside: Settings
    outside: Settings = field(default_factory=dict)


def clips(low: float, high: float) -> Settings:
    return {"grpo.epsilon": low, "grpo.epsilon_high": high}


def loss(name: str) -> Settings:
    return {"grpo.loss_type": name}


def level(name: str) -> Settings:
    return {"grpo.importance_level": name}


OFF_POLICY = {"grpo.num_iterations": 2}
FIXED = {"budgets.schedule": "constant"}
SETS = {"grpo.distribution": "conditional_bernoulli"}
SIZES_VARY = {"grpo.distribution": "bernoulli", "grpo.loss_type": "dapo"}
CISPO_BOUND = {"grpo.epsilon_high": 1.0}

TRAINED = {
    "clipping, on-policy": Case(clips(0.01, 0.01), clips(0.3, 0.5), {}, OFF_POLICY),
    "clipping, sapo": Case(clips(0.01, 0.01), clips(0.3, 0.5), OFF_POLICY | loss("sapo"), OFF_POLICY),
    "clipping, vespo": Case(clips(0.01, 0.01), clips(0.3, 0.5), OFF_POLICY | loss("vespo"), OFF_POLICY),
    "clipping below, cispo": Case(
        {"grpo.epsilon": 0.01}, {"grpo.epsilon": 0.9}, OFF_POLICY | loss("cispo") | CISPO_BOUND, OFF_POLICY
    ),
    "clipping above, cispo": Case(CISPO_BOUND, {"grpo.epsilon_high": 1.3}, loss("cispo"), OFF_POLICY | loss("cispo")),
    "level, on-policy": Case(level("token"), level("sequence"), {}, OFF_POLICY),
    "level, on-policy, sapo": Case(level("token"), level("sequence"), loss("sapo"), OFF_POLICY | loss("sapo")),
    "level, sets": Case(level("token"), level("sequence"), OFF_POLICY | SETS, OFF_POLICY),
    "level, one pick": Case(
        level("token"), level("sequence"), OFF_POLICY | FIXED | {"budgets.constant": 1}, OFF_POLICY | FIXED
    ),
    "sapo": Case(loss("grpo"), loss("sapo"), {}, OFF_POLICY),
    "vespo": Case(loss("dapo"), loss("vespo"), {}, OFF_POLICY),
    "cispo": Case(loss("bnpo"), loss("cispo"), CISPO_BOUND, OFF_POLICY | CISPO_BOUND),
    "means over picks and selections": Case(loss("grpo"), loss("dapo"), OFF_POLICY | FIXED, OFF_POLICY),
    "means, linear": Case(loss("grpo"), loss("bnpo"), {"budgets.schedule": "linear"}, {}),
    "means, cosine": Case(loss("grpo"), loss("bnpo"), {"budgets.schedule": "cosine"}, {"budgets.schedule": "staged"}),
    "means, one size": Case(loss("grpo"), loss("bnpo"), FIXED, {}),
    "means, all on-policy": Case(loss("sapo"), loss("vespo"), FIXED, FIXED | OFF_POLICY),
    "dr_grpo": Case(loss("grpo"), loss("dr_grpo"), OFF_POLICY | FIXED | {"budgets.constant": 12}, OFF_POLICY | FIXED),
    "luspo": Case(
        loss("grpo"), loss("luspo"), level("sequence") | FIXED | {"budgets.constant": 1}, level("sequence") | FIXED
    ),
    "estimator": Case({"grpo.kl_estimator": "k1"}, {"grpo.kl_estimator": "k3"}, {"grpo.beta": 0.0}, {"grpo.beta": 1.0}),
    "placement": Case(
        {"grpo.kl_placement": "loss"},
        {"grpo.kl_placement": "reward"},
        {"grpo.beta": 0.0, "grpo.kl_estimator": "k1"},
        {"grpo.kl_estimator": "k1"},
    ),
    "batch of one prompt": Case(
        {"grpo.scale_rewards": "group"}, {"grpo.scale_rewards": "batch"}, {"grpo.prompts_per_step": 1}
    ),
    "floor, unscaled": Case({"grpo.std_floor": 0.0}, {"grpo.std_floor": 3.0}, {"grpo.scale_rewards": "none"}),
    "floor, dead below": Case({"grpo.std_floor": 0.0}, {"grpo.std_floor": 0.5}, {"grpo.min_std": 0.5}),
    "penalty": Case({"grpo.budget_penalty": 0.0}, {"grpo.budget_penalty": 2.0}, {}, SIZES_VARY),
    "range": Case(
        {"budgets.low": 1, "budgets.high": 12},
        {"budgets.low": 2, "budgets.high": 5},
        FIXED,
        {"budgets.schedule": "staged"},
    ),
}
"""Arms whose policies are compared after training."""


ONE = {"budgets.values": [5], "budgets.weights": [1.0], "budgets.constant": 5}
ADAPTIVE = {"budgets.schedule": "adaptive"}
STAGED = {"budgets.schedule": "staged"}
DOWN, UP = {"budgets.direction": "high_to_low"}, {"budgets.direction": "low_to_high"}

DRAWN = {
    **{
        f"{name}, range of one": Case(
            {"budgets.schedule": "uniform"}, {"budgets.schedule": name}, ONE | {"budgets.low": 5, "budgets.high": 5}
        )
        for name in ("constant", "log_uniform", "linear", "cosine", "staged", "mixture", "adaptive")
    },
    "one weight": Case(FIXED, {"budgets.schedule": "mixture"}, {"budgets.weights": [0.0, 1.0, 0.0]}),
    "one stage": Case({"budgets.schedule": "log_uniform"}, STAGED, {"budgets.stages": 1}),
    "range": Case(
        {"budgets.low": 1, "budgets.high": 12},
        {"budgets.low": 1, "budgets.high": 13},
        {"budgets.schedule": "mixture"},
        {"budgets.schedule": "uniform"},
    ),
    "constant": Case({"budgets.constant": 3}, {"budgets.constant": 4}, {"budgets.schedule": "uniform"}, FIXED),
    **{
        f"direction, {name}": Case(DOWN, UP, {"budgets.schedule": "uniform"}, {"budgets.schedule": name})
        for name in ("linear", "cosine", "staged")
    },
    "direction, range of one": Case(DOWN, UP, STAGED | {"budgets.low": 12}, STAGED),
    "direction, one stage": Case(DOWN, UP, STAGED | {"budgets.stages": 1}, STAGED),
    "stages": Case({"budgets.stages": 2}, {"budgets.stages": 3}, {"budgets.schedule": "linear"}, STAGED),
    **{
        f"{name}, {where}": Case({f"budgets.{name}": first}, {f"budgets.{name}": second}, inside, ADAPTIVE)
        for where, inside in (
            ("log_uniform", {}),
            ("range of one", ADAPTIVE | {"budgets.low": 12}),
            ("all exploration", ADAPTIVE | {"budgets.exploration": 1.0}),
            ("one bin", ADAPTIVE | {"budgets.bins": 1}),
        )
        for name, first, second in (("bins", 2, 4), ("smoothing", 0.0, 0.9), ("exploration", 0.1, 0.6))
        if (name, where) not in (("exploration", "all exploration"), ("bins", "one bin"))
    },
}
"""Arms whose budgets are compared."""

CLIPPED = {
    "high": Case(
        {"grpo.reward.clip_high": 1.0},
        {"grpo.reward.clip_high": 2.0},
        {"grpo.reward.correct": 1.0, "grpo.reward.fidelity": 1.0},
        {"grpo.reward.gain": 1.0},
    ),
    "low": Case(
        {"grpo.reward.clip_low": -1.0},
        {"grpo.reward.clip_low": 0.0},
        {"grpo.reward.correct": 1.0, "grpo.reward.log_prob": 0.0},
        {},
    ),
}
"""Arms whose rewards are compared."""

COLLAPSE = {"entropy": 0.999, "kl": 0.001, "accuracy_drop": 0.0, "evaluations": 1}
WATCHED = {
    "collapse": Case(
        {f"grpo.collapse.{name}": BASE[f"grpo.collapse.{name}"] for name in COLLAPSE},
        {f"grpo.collapse.{name}": value for name, value in COLLAPSE.items()},
        {},
        {"grpo.collapse.stop": True},
    ),
    "evaluations": Case(
        {"grpo.evaluate_every": 4},
        {"grpo.evaluate_every": 2},
        {},
        {"grpo.collapse.stop": True, "grpo.collapse.accuracy_drop": 0.0, "grpo.collapse.evaluations": 1},
    ),
    "checkpoints": Case({"grpo.checkpoint_every": 2}, {"grpo.checkpoint_every": 4}, {}),
}
"""Arms whose whole runs are compared."""


def named(cases: Mapping[str, Case]):
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def configs(changes: Settings) -> tuple[GrpoConfig, BudgetConfig]:
    """The tests' settings with others in their places, checked by the schema."""
    raw: dict[str, Any] = {"grpo": make_grpo().model_dump(), "budgets": make_budgets().model_dump()}
    for key, value in changes.items():
        *sections, name = key.split(".")
        functools.reduce(dict.__getitem__, sections, raw)[name] = value
    return GrpoConfig(**raw["grpo"]), BudgetConfig(**raw["budgets"])


def findings(space: Mapping[str, tuple | Axis], **changes: Any) -> list[Finding]:
    axes = {key: axis if isinstance(axis, Axis) else Axis(axis) for key, axis in space.items()}
    return void_findings({**BASE, **changes}, axes)


def refused(space: Mapping[str, tuple | Axis], changes: Settings) -> bool:
    return any(finding.severity == "refuse" for finding in findings(space, **changes))


# What is told ---------------------------------------------------------------------------------------------------------


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


# What the trainer does ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """The models are tiny: threads cost more than they save, and so do the collections that transformers calls for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def build(llava, store, tmp_path_factory):
    """The trainer of these settings."""

    def built(changes: Settings):
        grpo, budgets = configs(changes)
        trainer = build_trainer(grpo, budgets, 3, Task(llava.vlm, store, make_scorer()), tmp_path_factory.mktemp("run"))
        trainer.remove_callback(PrinterCallback)
        return trainer

    return built


@pytest.fixture(scope="module")
def trained(build, llava, store):
    """The log-probabilities of each first pick by the trained policy, at two budgets.

    Not its parameters: some do nothing, as a bias that is added to all scores, and Adam follows their rounding noise.
    """
    known: dict[str, torch.Tensor] = {}

    def policy(changes: Settings) -> torch.Tensor:
        name = str(configs(changes))
        if name not in known:
            rollouts = {"grpo.steps": 2 * changes.get("grpo.num_iterations", 1), "grpo.lr_warmup_steps": 0}
            trainer = build({**rollouts, "grpo.lr_schedule": "constant", **changes})
            trainer.args.save_strategy = SaveStrategy.NO
            trainer.train()
            context = store.context(llava.vlm, np.arange(len(store)))
            with torch.no_grad():
                scores = [trainer.model.eval()(context, torch.full((len(store),), k)) for k in (2, 9)]
            known[name] = torch.stack(scores).log_softmax(-1)
        return known[name]

    return policy


@named(TRAINED)
def test_void_arms_end_in_one_policy_and_others_do_not(case, trained):
    start = trained({"grpo.learning_rate": 1e-12})
    inside = [trained({**case.inside, **arm}) for arm in (case.first, case.second)]
    assert (inside[0] - start).abs().max() > 0.1
    assert (inside[0] - inside[1]).abs().max() < 1e-3
    outside = [trained({**case.outside, **arm}) for arm in (case.first, case.second)]
    assert (outside[0] - outside[1]).abs().max() > 1e-2


def drawn(changes: Settings) -> torch.Tensor:
    """The budgets of a run whose rewards vary more at some budgets than at others."""
    schedule = make_schedule(configs(changes)[1])
    state, budgets = schedule.initial(), []
    for step in range(8):
        k_B = schedule.sample(state, step, 8, 32, torch_generator(0, "budget", step))
        state = schedule.update(state, k_B, (1 + step) * (k_B - 4.0).abs())
        budgets.append(k_B)
    return torch.cat(budgets)


@named(DRAWN)
def test_void_arms_draw_the_same_budgets_and_others_do_not(case):
    assert torch.equal(*(drawn({**case.inside, **arm}) for arm in (case.first, case.second)))
    assert not torch.equal(*(drawn({**case.outside, **arm}) for arm in (case.first, case.second)))


@named(CLIPPED)
def test_void_clips_leave_every_reward_alone_and_others_do_not(case):
    answers = AnswerScores(
        torch.tensor([-9.0, -2.0, -0.5, 0.0]),
        torch.tensor([False, False, True, True]),
        torch.tensor([4.0, 1.0, 0.5, 0.0]),
    )
    scored = Scored(answers, torch.full((4,), -3.0))

    def rewards(changes: Settings) -> torch.Tensor:
        return reward(configs(changes)[0].reward, scored)

    assert torch.equal(*(rewards({**case.inside, **arm}) for arm in (case.first, case.second)))
    assert not torch.equal(*(rewards({**case.outside, **arm}) for arm in (case.first, case.second)))


@named(WATCHED)
def test_what_only_watches_changes_no_weight(case, llava, store, tmp_path):
    def weights(name: str, changes: Settings) -> torch.Tensor:
        grpo, budgets = configs({"grpo.steps": 4, **changes})
        accuracy = itertools.count(0.9, -0.1)

        def falling(*_) -> dict[str, float]:
            return {"accuracy": next(accuracy)}

        run = RunFolder(tmp_path / name, {})
        scorer = train(grpo, budgets, 3, Task(llava.vlm, store, make_scorer()), falling, run)
        return torch.nn.utils.parameters_to_vector(scorer.parameters())

    assert torch.equal(weights("a", {**case.inside, **case.first}), weights("b", {**case.inside, **case.second}))
    if case.outside:
        arms = ({**case.outside, **arm} for arm in (case.first, case.second))
        assert not torch.equal(*(weights(f"outside-{i}", arm) for i, arm in enumerate(arms)))


@pytest.fixture(scope="module")
def slope(build):
    """The gradient of the first update; with another reference if one is given."""

    def gradient(changes: Settings, reference_factor: float = 1.0) -> torch.Tensor:
        trainer = build({"grpo.beta": 0.0, **changes})
        with torch.no_grad():
            trainer.ref_model.score.weight.mul_(reference_factor)
        trainer.current_gradient_accumulation_steps = 1  # set by transformers' loop
        trainer.model.train()
        inputs = trainer._prepare_inputs([{"prompt": "0"}])
        loss = trainer._compute_loss(trainer.model, inputs)
        found = torch.autograd.grad(loss, [p for p in trainer.model.parameters() if p.requires_grad], allow_unused=True)
        return torch.cat([part.flatten() for part in found if part is not None])

    return gradient


def is_multiple(first: torch.Tensor, second: torch.Tensor, factor: float) -> bool:
    return torch.allclose(factor * first, second, rtol=1e-3, atol=1e-4 * float(second.abs().max()))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_leaving_one_out_multiplies_advantages_by_a_constant(slope, scale):
    scaled = {"grpo.scale_rewards": scale}
    assert is_multiple(slope(scaled), slope(scaled | {"grpo.baseline": "leave_one_out"}), 3 / 2)


def test_sums_over_picks_are_means_times_a_constant(slope):
    mean = slope(FIXED)  # 3 picks
    assert is_multiple(mean, slope(FIXED | level("sequence") | loss("luspo")), 3)
    assert is_multiple(mean, slope(FIXED | loss("dr_grpo")), 3 / 12)
    assert is_multiple(mean, slope(FIXED | loss("dr_grpo") | {"budgets.high": 24}), 3 / 24)
    assert is_multiple(slope(loss("dr_grpo")), slope(level("sequence") | loss("luspo")), 12)
    assert not is_multiple(slope({}), slope(loss("dr_grpo")), 3 / 12)


def test_as_a_loss_k1_does_not_see_the_reference(slope):
    def moves(estimator: str) -> bool:
        kl = {"grpo.beta": 1.0, "grpo.kl_estimator": estimator}
        return not is_multiple(slope(kl), slope(kl, reference_factor=2.0), 1)

    assert [moves(estimator) for estimator in ("k1", "k2", "k3")] == [False, True, True]


def test_dropping_dead_groups_is_a_factor_without_a_kl(slope, build):
    trainer = build({})
    trainer._prepare_inputs([{"prompt": "0"}])
    std_B = trainer.rollout.rewards_BG.std(1).sort().values
    half = {"grpo.min_std": float(std_B[1:3].mean())}
    assert is_multiple(slope(half), slope(half | {"grpo.dead_groups": "drop"}), 4 / 2)
    anchored = half | {"grpo.beta": 0.3, "grpo.kl_estimator": "k1"}
    assert not is_multiple(slope(anchored), slope(anchored | {"grpo.dead_groups": "drop"}), 4 / 2)
    assert std_B[0] > 0  # none is dead at min_std = 0


def test_a_kl_in_the_reward_may_bring_a_std_below_min_std_and_thus_the_floor(slope):
    """The first group's std is 1.08, and less its KL 1.02."""
    alive = {"grpo.min_std": 1.06}
    kl = alive | {"grpo.beta": 3.0, "grpo.kl_estimator": "k1", "grpo.kl_placement": "reward"}
    floor = {"grpo.std_floor": 1.06}
    assert is_multiple(slope(alive), slope(alive | floor), 1)
    assert not is_multiple(slope(kl, reference_factor=2.0), slope(kl | floor, reference_factor=2.0), 1)
    assert [refused({"grpo.std_floor": (0.0, 1.06)}, changes) for changes in (alive, kl)] == [True, False]


def test_the_weight_of_the_only_reward_is_its_unit(slope):
    tripled = {"grpo.reward.log_prob": 3.0}
    assert is_multiple(slope({}), slope(tripled), 1)
    assert is_multiple(slope({"grpo.scale_rewards": "none"}), slope(tripled | {"grpo.scale_rewards": "none"}), 3)
    fidelity = {"grpo.reward.fidelity": 1.0}
    assert not is_multiple(slope(fidelity), slope(fidelity | tripled), 1)


def test_gain_is_log_prob(slope):
    gain = {"grpo.reward.log_prob": 0.0, "grpo.reward.gain": 1.0}
    assert is_multiple(slope({}), slope(gain), 1)
    clip = {"grpo.reward.clip_high": -1.0}
    assert not is_multiple(slope(clip), slope(clip | gain), 1)


def test_without_a_division_the_gradient_has_the_size_of_the_reward(slope, build):
    one = {"grpo.prompts_per_step": 1}
    trainer = build(one)
    trainer._prepare_inputs([{"prompt": "0"}] * 3)
    std = float(trainer.rollout.rewards_BG.std())
    assert is_multiple(slope(one), slope(one | {"grpo.scale_rewards": "none"}), std)


def test_selections_of_one_token_have_one_distribution():
    scores_BN = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    picks = Picks(torch.arange(4)[None, :, None], torch.ones(1, 4, 1, dtype=torch.bool))
    both = (kind(scores_BN, torch.tensor([1])).log_prob(picks) for kind in (PlackettLuce, ConditionalBernoulli))
    assert torch.allclose(*both)
