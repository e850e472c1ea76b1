"""Collapses, one cause at a time, at the step at which they are complete."""

from __future__ import annotations

import pytest

from grip_core.config import CollapseConfig
from grip_core.rl.collapse import Collapse, CollapseDetector, find_collapse, reward_accuracy

CONFIG = CollapseConfig(entropy=0.1, kl=2.0, accuracy_drop=0.05, evaluations=3, stop=False)


def rollouts(entropy: list[float] | None = None, kl: list[float] | None = None) -> list[dict[str, float]]:
    """Rows from step 1 on, sound where nothing is said."""
    length = len(entropy or kl or [])
    return [
        {"step": i + 1, "reward": 0.0, "entropy": (entropy or [0.5] * length)[i], "kl": (kl or [0.0] * length)[i]}
        for i in range(length)
    ]


def evaluations(accuracies: list[float]) -> list[dict[str, float]]:
    """Rows at steps 0, 10, 20, ..."""
    return [{"step": 10 * i, "accuracy": value} for i, value in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (rollouts(entropy=[0.5, 0.09, 0.05, 0.0, 0.0]), Collapse(4, "entropy")),
        (rollouts(entropy=[0.05, 0.05, 0.1, 0.05, 0.05]), None),  # the threshold itself interrupts
        (rollouts(kl=[2.1, 2.1, 2.0, 2.1, 3.0, 9.0]), Collapse(6, "kl")),
        (rollouts(kl=[2.0] * 9), None),
        (evaluations([0.80, 0.74, 0.70, 0.74, 0.9]), Collapse(30, "accuracy")),
        (evaluations([0.80, 0.74, 0.70, 0.76, 0.74, 0.70]), None),
        (evaluations([0.80, 0.75, 0.75, 0.75, 0.75]), None),  # .80 - .75 is above .05 by a rounding error
        ([], None),
    ],
)
def test_the_first_row_that_completes_it(rows, expected):
    assert find_collapse(rows, CONFIG) == expected


def test_rows_that_say_nothing_neither_count_nor_interrupt():
    low = rollouts(entropy=[0.05, 0.05, 0.05])
    updates = [{"step": row["step"] + 0.5, "entropy": 0.9, "kl": 9.0} for row in low]  # no rollouts: no reward
    silent = [{"step": 7, "reward": 0.0, "kl": 0.0}]  # nothing had a choice
    rows = [low[0], updates[0], low[1], *silent, updates[1], low[2]]
    assert find_collapse(rows, CONFIG) == Collapse(3, "entropy")
    assert find_collapse(updates, CONFIG) is None


def test_without_the_warm_ups_accuracy_none_is_too_low():
    assert find_collapse(evaluations([0.8, 0.1, 0.1, 0.1])[1:], CONFIG) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_a_collapse_at_once(value):
    rows = [*rollouts(entropy=[0.05, 0.05]), {"step": 3, "reward": 0.0, "entropy": 0.05, "grad_norm": value}]
    assert find_collapse(rows, CONFIG) == Collapse(3, "nan")


def test_the_earliest_of_several_causes_counts_and_entropy_before_kl():
    assert find_collapse(rollouts(entropy=[0.5, 0.0, 0.0, 0.0], kl=[9.0] * 4), CONFIG) == Collapse(3, "kl")
    assert find_collapse(rollouts(entropy=[0.0] * 4, kl=[9.0] * 4), CONFIG) == Collapse(3, "entropy")


def test_one_evaluation_can_be_enough():
    assert find_collapse(rollouts(kl=[0.0, 2.5]), CONFIG.model_copy(update={"evaluations": 1})) == Collapse(2, "kl")


def test_a_detector_says_it_once_and_remembers_it():
    rows = rollouts(kl=[3.0] * 6)
    detector = CollapseDetector(CONFIG)
    assert [detector.see(row) for row in rows] == [None, None, Collapse(3, "kl"), None, None, None]
    assert detector.found == Collapse(3, "kl")


@pytest.mark.parametrize("cut", range(8))
def test_a_detector_that_is_shown_the_rows_so_far_again_goes_on(cut):
    rows = [*evaluations([0.8, 0.7]), *rollouts(kl=[0.0, 3.0, 3.0, 3.0, 3.0])]
    resumed = CollapseDetector(CONFIG)
    for row in rows[:cut]:
        resumed.see(row)
    for row in rows[cut:]:
        resumed.see(row)
    assert resumed.found == find_collapse(rows, CONFIG) == Collapse(4, "kl")


def run(rewards: list[list[float]], accuracies: list[float]) -> list[dict[str, float]]:
    """A warm-up's evaluation, then rollouts in parts, the last of each evaluated."""
    rows: list[dict[str, float]] = [{"step": 0, "accuracy": 0.5}]
    for part, accuracy in zip(rewards, accuracies, strict=True):
        rows += [{"step": len(rows) + i, "reward": value} for i, value in enumerate(part)]
        rows += [{"step": len(rows)}]  # a further update of the last rollout
        rows[-1]["accuracy"] = accuracy
    return rows


def test_rewards_are_means_since_the_last_evaluation():
    # Means 1, 2, 0 and 3 against .1, .2, .4, .3: ranks 2, 3, 1, 4 and 1, 2, 4, 3, so 1 - 6 * 12 / (4 * 15).
    rows = run([[0.0, 2.0], [1.0, 3.0, 2.0], [0.0], [4.0, 2.0]], [0.1, 0.2, 0.4, 0.3])
    assert reward_accuracy(rows) == pytest.approx({"spearman": -0.2, "diverged": 0.0})


@pytest.mark.parametrize(
    ("rewards", "accuracies", "diverged"),
    [
        ([0.0, 0.1, 5.0, 5.0, 0.2, 0.3], [0.6, 0.5, 0.9, 0.9, 0.5, 0.5], 1.0),
        ([0.0, 0.1, 5.0, 5.0, 0.2, 0.3], [0.5, 0.5, 0.1, 0.1, 0.6, 0.5], 0.0),
        ([0.3, 0.2, 0.0, 0.0, 0.1, 0.0], [0.6, 0.5, 0.9, 0.9, 0.5, 0.5], 0.0),
        ([0.0, 0.1, 5.0, 5.0, 0.2, 0.3], [0.1 + 0.2, 0.3, 0.9, 0.9, 0.3, 0.3], 0.0),  # lower by a rounding error
    ],
)
def test_divergence_is_reward_up_and_accuracy_down_between_the_first_and_the_last_third(rewards, accuracies, diverged):
    assert reward_accuracy(run([[value] for value in rewards], accuracies))["diverged"] == diverged


def test_what_cannot_be_said_is_left_out():
    assert reward_accuracy([]) == {}
    assert reward_accuracy(run([[1.0], [2.0]], [0.1, 0.2])) == {}
    assert reward_accuracy(run([[1.0], [2.0], [3.0]], [0.5, 0.5, 0.5])) == {"diverged": 0.0}
