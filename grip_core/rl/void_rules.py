"""Which settings of a run cannot matter, given the others.

A rule maps a value to an image: values with equal images are the same run, to rounding. The rules follow from TRL
1.16's `_compute_loss`, which the trainer uses as it is, and from this folder's advantages, regularizers and rewards and
the budget schedules; tests/rl/test_void.py trains both arms of each. Two facts serve several rules:

With one update per rollout every ratio is r = 1. There clipping at 1 - epsilon and 1 + epsilon_high does not bind,
SAPO's 4 / t * sigmoid(t (r - 1)) has slope 1 for every temperature t, the weights of CISPO and VESPO are 1, and the
gradient of a selection's mean ratio is the mean of its ratios' gradients: what is left of every loss is A * grad log p.

Losses average this over the picks of a selection and then over selections (grpo, sapo), over all picks (bnpo, dapo,
cispo, vespo), or sum it over the picks and average over selections (luspo; dr_grpo, which divides by budgets.high).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str
Settings = Mapping[str, Any]
"""Values of all settings of `grpo` and `budgets` by their key in params.yaml, as "grpo.beta"."""


@dataclass(frozen=True)
class Rule:
    """Under which other settings values of a key are the same run."""

    keys: tuple[str, ...]
    reads: tuple[str, ...]
    """The other settings that decide."""
    image: Callable[[Settings, Any], Hashable]
    """Values with the same image are the same run; None is no other value's."""
    reason: str
    exact: bool = True
    """Else the runs are nearly the same: they differ by what the reason says."""


@dataclass(frozen=True)
class Trap:
    """Values that change something else than their name says."""

    key: str
    reads: tuple[str, ...]
    """The other settings that decide."""
    caught: Callable[[Settings, Any], bool]
    reason: str
    remedy: str
    with_key: str | None = None
    """A key that must be searched too for it to be one, ..."""
    without_key: str | None = None
    """... and one that must not be."""


def _alike(condition: Callable[[Settings], bool]) -> Callable[[Settings, Any], Hashable]:
    """All values are the same run where the condition holds."""
    return lambda s, _: condition(s) or None


# Loss -----------------------------------------------------------------------------------------------------------------

SCHEDULE = "budgets.schedule"
BUDGETS = tuple(f"budgets.{name}" for name in ("low", "high", "constant", "values", "weights", "stages"))
MEANS = {"grpo": "selections", "sapo": "selections", "luspo": "sum", "dr_grpo": "sum / high"}
"""What a loss averages over, if not over all picks."""
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""Losses with PPO's surrogate; the others bound ratios in ways of their own."""
ADAM = "which Adam cancels: what is left is how the gradient compares with max_grad_norm and beta"


def _drawn(s: Settings, schedule: str) -> tuple[Hashable, ...]:
    """What a schedule draws, in one name where two draw the same."""
    weighted = [k for k, weight in zip(s["budgets.values"], s["budgets.weights"], strict=True) if weight > 0]
    if schedule == "constant":
        return "fixed", s["budgets.constant"]
    if schedule == "mixture" and len(weighted) == 1:
        return "fixed", weighted[0]
    if s["budgets.low"] == s["budgets.high"]:
        return "fixed", s["budgets.low"]
    if schedule == "staged" and s["budgets.stages"] == 1:
        return ("log_uniform",)
    return (schedule,)


def _one_length(s: Settings) -> int | None:
    """The number of picks of all selections; None where they differ."""
    kind, *k = _drawn(s, s[SCHEDULE])
    return int(str(k[0])) if kind == "fixed" and s["grpo.distribution"] != "bernoulli" else None


def _even(s: Settings) -> bool:
    """Whether all selections of a rollout have as many picks."""
    annealed = s[SCHEDULE] in ("linear", "cosine") and s["grpo.distribution"] != "bernoulli"
    return annealed or _one_length(s) is not None


def _on_policy(s: Settings) -> bool:
    return s["grpo.num_iterations"] == 1


def _loss(s: Settings, loss: str) -> tuple[str, str]:
    """A loss's surrogate, and what its terms are averaged over."""
    surrogate = "any" if _on_policy(s) else "clipped" if loss in CLIPPED else loss
    mean, k = MEANS.get(loss, "picks"), _one_length(s)
    divisor_is_k = {"picks": _even(s), "sum": k == 1, "sum / high": k == s["budgets.high"]}
    return surrogate, "selections" if divisor_is_k.get(mean) else mean


def _loss_but_for_a_factor(s: Settings, loss: str) -> tuple[str, str]:
    surrogate, mean = _loss(s, loss)
    if _one_length(s) is not None:
        return surrogate, "selections"
    return surrogate, "sum" if mean == "sum / high" else mean


LOSS = (
    Rule(
        ("grpo.epsilon", "grpo.epsilon_high"),
        ("grpo.num_iterations",),
        _alike(_on_policy),
        "with one update per rollout (num_iterations = 1) every ratio is 1 and none is clipped",
    ),
    Rule(
        ("grpo.epsilon", "grpo.epsilon_high"),
        ("grpo.loss_type",),
        _alike(lambda s: s["grpo.loss_type"] in ("sapo", "vespo")),
        "sapo and vespo weight ratios smoothly and clip none",
    ),
    Rule(
        ("grpo.epsilon",),
        ("grpo.loss_type",),
        _alike(lambda s: s["grpo.loss_type"] == "cispo"),
        "cispo clips ratios above only",
    ),
    Rule(
        ("grpo.importance_level",),
        ("grpo.num_iterations",),
        _alike(_on_policy),
        "with one update per rollout (num_iterations = 1) every ratio is 1, and the gradient of a selection's mean "
        "ratio is the mean of its ratios' gradients",
    ),
    Rule(
        ("grpo.importance_level",),
        ("grpo.distribution",),
        _alike(lambda s: s["grpo.distribution"] != "plackett_luce"),
        "a distribution over sets gives all picks of a selection the same ratio, which is then its mean",
    ),
    Rule(
        ("grpo.importance_level",),
        ("grpo.distribution", SCHEDULE, *BUDGETS),
        _alike(lambda s: _one_length(s) == 1),
        "a selection of one pick has one ratio",
    ),
    Rule(
        ("grpo.loss_type",),
        ("grpo.num_iterations", "grpo.distribution", SCHEDULE, *BUDGETS),
        _loss,
        "with one update per rollout (num_iterations = 1) every ratio is 1, whatever is done to ratios, and means over "
        "picks and over selections agree where a rollout's selections are of one length; elsewhere losses differ",
    ),
    Rule(
        ("grpo.loss_type",),
        ("grpo.num_iterations", "grpo.distribution", SCHEDULE, *BUDGETS),
        _loss_but_for_a_factor,
        "these losses differ by a constant factor (luspo sums over the k picks, dr_grpo divides the sum by "
        f"budgets.high, the others by k), {ADAM}",
        exact=False,
    ),
    Rule(
        ("grpo.distribution",),
        (SCHEDULE, *BUDGETS),
        lambda s, value: (value != "bernoulli" and _drawn(s, s[SCHEDULE]) == ("fixed", 1)) or None,
        "a selection of one token has the same probability in both, which differ by the random draws alone",
        exact=False,
    ),
)

# KL -------------------------------------------------------------------------------------------------------------------

KL = ("grpo.beta", "grpo.kl_placement")


def _kl_in(s: Settings, placement: str) -> bool:
    return s["grpo.beta"] > 0 and s["grpo.kl_placement"] == placement


REGULARIZERS = (
    Rule(
        ("grpo.kl_estimator", "grpo.kl_placement"),
        ("grpo.beta",),
        _alike(lambda s: s["grpo.beta"] == 0),
        "at beta = 0 there is no KL",
    ),
    Rule(
        ("grpo.beta",),
        ("grpo.kl_estimator", "grpo.kl_placement"),
        _alike(lambda s: s["grpo.kl_estimator"] == "k1" and s["grpo.kl_placement"] == "loss"),
        "as a loss the gradient of k1 does not have the reference in it: its weight adds noise and anchors nothing",
        exact=False,
    ),
)

# Rewards --------------------------------------------------------------------------------------------------------------

DENSE = tuple(f"grpo.reward.{name}" for name in ("log_prob", "fidelity", "gain"))
CORRECT = "grpo.reward.correct"
UNIT = ("grpo.scale_rewards", "grpo.std_floor", "grpo.distribution", "grpo.budget_penalty", *KL)


def _no_unit(s: Settings) -> bool:
    """Whether a factor of all rewards is at most one of all advantages."""
    penalty = s["grpo.distribution"] == "bernoulli" and s["grpo.budget_penalty"] > 0
    return (s["grpo.scale_rewards"] == "none" or s["grpo.std_floor"] == 0) and not penalty and not _kl_in(s, "reward")


def _weight(*names: str) -> Rule:
    """The weight of a reward beside which no other counts; names of those that differ by a constant go together."""
    keys = tuple(f"grpo.reward.{name}" for name in names)
    others = tuple(key for key in (*DENSE, CORRECT) if key not in keys)
    return Rule(
        keys,
        (*others, *UNIT),
        _alike(lambda s: _no_unit(s) and not any(s[key] for key in others)),
        "beside no other reward a weight is only the reward's unit, which a division by the std cancels, and Adam "
        "without one: what is left is how it compares with min_std, clip_low and clip_high",
        exact=False,
    )


REWARDS = (
    _weight("log_prob", "gain"),
    _weight("correct"),
    _weight("fidelity"),
    Rule(
        ("grpo.reward.clip_high",),
        (CORRECT, "grpo.reward.gain"),
        lambda s, high: (s["grpo.reward.gain"] == 0 and high >= s[CORRECT]) or None,
        "no reward is so high: log_prob and fidelity are at most 0, correct at most its weight",
    ),
    Rule(
        ("grpo.reward.clip_low",),
        DENSE,
        lambda s, low: (low <= 0 and not any(s[key] for key in DENSE)) or None,
        "no reward is so low: correct is at least 0",
    ),
    Rule(
        ("grpo.budget_penalty",),
        ("grpo.distribution",),
        _alike(lambda s: s["grpo.distribution"] != "bernoulli"),
        "only bernoulli keeps more or fewer tokens than the budget says",
    ),
)

# Advantages -----------------------------------------------------------------------------------------------------------


def _floor(s: Settings, floor: float) -> Hashable:
    """No group that is alive has a std at which a floor up to `min_std` binds."""
    if s["grpo.scale_rewards"] == "none":
        return True
    return (s["grpo.scale_rewards"] == "group" and floor <= s["grpo.min_std"] and not _kl_in(s, "reward")) or None


ADVANTAGES = (
    Rule(
        ("grpo.baseline",),
        (),
        _alike(lambda _: True),
        f"the two differ by the constant factor G / (G - 1), 1.14 for group_size = 8 and 1.03 for 32, {ADAM}",
        exact=False,
    ),
    Rule(
        ("grpo.scale_rewards",),
        ("grpo.prompts_per_step",),
        lambda s, value: (s["grpo.prompts_per_step"] == 1 and value != "none") or None,
        "a batch of one prompt is its group",
    ),
    Rule(
        ("grpo.std_floor",),
        ("grpo.scale_rewards", "grpo.min_std", *KL),
        _floor,
        "nothing is divided by a std so small: with scale_rewards = none by no std at all, with group by that of "
        "groups above min_std, for the others are dead",
    ),
    Rule(
        ("grpo.dead_groups",),
        ("grpo.entropy_coef", *KL),
        lambda s, value: (value != "resample" and s["grpo.entropy_coef"] == 0 and not _kl_in(s, "loss")) or None,
        "with neither a KL nor an entropy bonus in the loss a dead group has no gradient, and the two differ only in "
        "whether it counts in the mean: a factor of the gradient, another one each rollout",
        exact=False,
    ),
    Rule(
        ("grpo.dead_groups",),
        ("grpo.min_std", *DENSE),
        _alike(lambda s: s["grpo.min_std"] == 0 and any(s[key] for key in DENSE)),
        "at min_std = 0 hardly any group is dead, for rewards made of log-probabilities are never quite equal",
        exact=False,
    ),
)

# Budgets --------------------------------------------------------------------------------------------------------------

RANGE = ("budgets.low", "budgets.high")


def _reads_no_range(s: Settings) -> bool:
    return s[SCHEDULE] in ("constant", "mixture")


def _unread(*schedules: str) -> Callable[[Settings, Any], Hashable]:
    """Whether the schedule is none of those that read a key beside the range, or the range is a single budget."""
    return _alike(lambda s: s[SCHEDULE] not in schedules or s["budgets.low"] == s["budgets.high"])


SCHEDULES = (
    Rule((SCHEDULE,), BUDGETS, _drawn, "these schedules draw the same budgets here"),
    Rule(
        ("budgets.low",),
        (SCHEDULE,),
        _alike(_reads_no_range),
        "constant and mixture have budgets of their own",
    ),
    Rule(
        ("budgets.high",),
        (SCHEDULE, "grpo.loss_type"),
        _alike(lambda s: _reads_no_range(s) and s["grpo.loss_type"] != "dr_grpo"),
        "constant and mixture have budgets of their own",
    ),
    Rule(
        ("budgets.high",),
        (SCHEDULE, "grpo.loss_type"),
        _alike(lambda s: _reads_no_range(s) and s["grpo.loss_type"] == "dr_grpo"),
        f"constant and mixture have budgets of their own, and dr_grpo divides its gradient by it, {ADAM}",
        exact=False,
    ),
    Rule(
        ("budgets.constant",),
        (SCHEDULE,),
        _alike(lambda s: s[SCHEDULE] != "constant"),
        "only the schedule constant reads it",
    ),
    Rule(
        ("budgets.direction",),
        (SCHEDULE, *RANGE),
        _unread("linear", "cosine", "staged"),
        "only linear, cosine and staged go from one end of a range to the other",
    ),
    Rule(
        ("budgets.direction",),
        (SCHEDULE, "budgets.stages"),
        _alike(lambda s: s[SCHEDULE] == "staged" and s["budgets.stages"] == 1),
        "a single stage has the whole range open from the start",
    ),
    Rule(("budgets.stages",), (SCHEDULE, *RANGE), _unread("staged"), "only staged cuts a range into stages"),
    Rule(
        ("budgets.bins", "budgets.smoothing", "budgets.exploration"),
        (SCHEDULE, *RANGE),
        _unread("adaptive"),
        "only adaptive cuts a range into bins and follows their signal",
    ),
    Rule(
        ("budgets.bins", "budgets.smoothing"),
        ("budgets.exploration",),
        _alike(lambda s: s["budgets.exploration"] == 1),
        "at exploration = 1 no budget follows the signal",
    ),
    Rule(
        ("budgets.smoothing", "budgets.exploration"),
        ("budgets.bins",),
        _alike(lambda s: s["budgets.bins"] == 1),
        "a single bin is chosen whatever its signal",
    ),
)

# What only watches ----------------------------------------------------------------------------------------------------

STOP = "grpo.collapse.stop"
WATCHERS = (
    Rule(
        tuple(f"grpo.collapse.{name}" for name in ("entropy", "kl", "accuracy_drop", "evaluations")),
        (STOP,),
        _alike(lambda s: not s[STOP]),
        "without collapse.stop a collapse is only written down",
    ),
    Rule(("grpo.evaluate_every",), (STOP,), _alike(lambda s: not s[STOP]), "evaluations change no update"),
    Rule(("grpo.checkpoint_every",), (), _alike(lambda _: True), "checkpoints change no update"),
)

RULES = (*LOSS, *REGULARIZERS, *ADVANTAGES, *REWARDS, *SCHEDULES, *WATCHERS)

# Traps ----------------------------------------------------------------------------------------------------------------

RATE = "grpo.learning_rate"
CONFOUNDED = "confounded with the learning rate, max_grad_norm and beta"
NO_ANCHOR = "is no anchor: as a loss the gradient of k1 does not have the reference in it"

TRAPS = (
    Trap(
        "grpo.scale_rewards",
        (),
        lambda s, value: value == "none",
        f"is {CONFOUNDED}, for it multiplies the gradient by about the std of the reward",
        f"search {RATE} too",
        without_key=RATE,
    ),
    Trap(
        "grpo.loss_type",
        ("grpo.distribution", SCHEDULE, *BUDGETS),
        lambda s, value: value in ("luspo", "dr_grpo") and _one_length(s) is None,
        f"is {CONFOUNDED}, for where others divide by a selection's picks luspo does not, and dr_grpo does by "
        "budgets.high",
        f"search {RATE} too",
        without_key=RATE,
    ),
    Trap(
        "grpo.kl_estimator",
        KL,
        lambda s, value: value == "k1" and _kl_in(s, "loss"),
        NO_ANCHOR,
        "take k2, or k1 with kl_placement = reward",
    ),
    Trap(
        "grpo.kl_placement",
        ("grpo.beta", "grpo.kl_estimator"),
        lambda s, value: value == "loss" and s["grpo.beta"] > 0 and s["grpo.kl_estimator"] == "k1",
        NO_ANCHOR,
        "compare k1 in the reward with k2 in the loss",
    ),
    Trap(
        "grpo.reward.gain",
        (),
        lambda s, value: value > 0,
        "is log_prob less a constant of the prompt, which cancels in a group unless the reward is clipped: only the "
        "sum of the two weights counts",
        "search one of them",
        with_key="grpo.reward.log_prob",
    ),
)
