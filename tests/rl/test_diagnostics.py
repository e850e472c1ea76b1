"""Diagnostics against hand-computed cases, loops over sets, and entropies of enumerated distributions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from grip_core.policy.distribution import Picks
from grip_core.rl.diagnostics import (
    budget_range,
    maximum_entropy,
    policy_diagnostics,
    rollout_diagnostics,
    update_diagnostics,
)
from grip_core.seeds import torch_generator


def picks(selections: list[list[list[int]]]) -> Picks:
    """Padded picks of B x G lists of tokens; the padding is token 0, as it may be kept too."""
    width = max(len(kept) for group in selections for kept in group)
    index = [[kept + [0] * (width - len(kept)) for kept in group] for group in selections]
    real = [[[True] * len(kept) + [False] * (width - len(kept)) for kept in group] for group in selections]
    return Picks(torch.tensor(index), torch.tensor(real))


def jaccard(first: list[int], second: list[int]) -> float:
    return len(set(first) & set(second)) / len(set(first) | set(second))


@pytest.mark.parametrize(
    ("k", "name"), [(1, "1"), (2, "2-3"), (3, "2-3"), (4, "4-7"), (7, "4-7"), (8, "8-15"), (36, "32-63")]
)
def test_budget_ranges_are_octaves(k, name):
    assert budget_range(k) == name


def test_a_rollout_by_hand():
    row = rollout_diagnostics(
        rewards_BG=torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0], [0.0, 0.0, 3.0]]),
        dead_B=torch.tensor([False, True, False]),
        k_B=torch.tensor([1, 2, 3]),
        picks=picks([[[0], [0], [1]], [[2, 1], [1, 2], [2, 1]], [[0, 1, 2], [2, 1, 3], [4, 5, 3]]]),
        reference_BK=torch.tensor([[1, 0, 0], [0, 2, 0], [2, 3, 1]]),
    )
    overlap = [1 / 3, 1.0, (2 / 4 + 0 + 1 / 5) / 3]
    reference = [0, 0, 1, *([1 / 3] * 3), 2 / 4, 1, 1 / 5]
    root = math.sqrt(3)  # sample std of 0, 0, 3
    expected = {
        "reward": 15 / 9,
        "reward@1": 1.0,
        "reward@2-3": 2.0,
        "reward_std": (1 + 0 + root) / 3,
        "reward_std@1": 1.0,
        "reward_std@2-3": root / 2,
        "dead_share": 1 / 3,
        "dead_share@1": 0.0,
        "dead_share@2-3": 0.5,
        "overlap": sum(overlap) / 3,
        "overlap@1": overlap[0],
        "overlap@2-3": (overlap[1] + overlap[2]) / 2,
        "overlap_reference": sum(reference) / 9,
        "k_mean": 2.0,
        "kept_mean": 2.0,
    }
    assert row == pytest.approx(expected, abs=1e-6)
    assert all(type(value) is float for value in row.values())


def test_overlaps_are_the_means_over_all_pairs_of_sets_of_any_size():
    random = np.random.RandomState(0)
    groups = [[random.permutation(9)[: random.randint(1, 7)].tolist() for _ in range(5)] for _ in range(6)]
    budgets = [1, 2, 3, 4, 5, 9]
    modes = [random.permutation(9).tolist() for _ in budgets]
    row = rollout_diagnostics(
        torch.zeros(6, 5), torch.ones(6, dtype=torch.bool), torch.tensor(budgets), picks(groups), torch.tensor(modes)
    )
    within = [[jaccard(*pair) for pair in itertools.combinations(group, 2)] for group in groups]
    assert row["overlap"] == pytest.approx(np.mean(within))
    assert row["overlap@2-3"] == pytest.approx(np.mean(within[1:3]))
    assert row["overlap@8-15"] == pytest.approx(np.mean(within[5]))
    triples = zip(groups, modes, budgets, strict=True)
    with_mode = [jaccard(kept, mode[:k]) for group, mode, k in triples for kept in group]
    assert row["overlap_reference"] == pytest.approx(np.mean(with_mode))
    assert row["kept_mean"] == pytest.approx(np.mean([len(kept) for group in groups for kept in group]))
    assert row["k_mean"] == pytest.approx(4.0)


def test_the_largest_possible_overlaps_are_one():
    same = picks([[[3, 1], [1, 3]]])
    row = rollout_diagnostics(
        torch.zeros(1, 2), torch.tensor([True]), torch.tensor([2]), same, torch.tensor([[1, 3, 0]])
    )
    assert row["overlap"] == row["overlap_reference"] == 1.0


NAN = float("nan")
RATIOS = torch.tensor([[2.0, 0.5, 1.0], [1.1, 0.7, NAN], [4.0, NAN, NAN], [0.5, 0.5, 0.5]], dtype=torch.float64)
"""Of four selections' picks; at the padding there is no telling what stands."""
ADVANTAGES = torch.tensor([1.0, -1.0, -1.0, 0.0])


def update(level, epsilon=0.2, epsilon_high=0.5, ratios=RATIOS) -> dict[str, float]:
    mask_RK = ~ratios.isnan()
    old_RK = torch.linspace(-3.0, -1.0, ratios.numel(), dtype=torch.float64).view_as(ratios)
    return update_diagnostics(ratios.log() + old_RK, old_RK, mask_RK, ADVANTAGES, epsilon, epsilon_high, level)


WEIGHTS = [1.0, 0.77, 4.0, 0.125]  # products of the ratios
ESS = sum(WEIGHTS) ** 2 / (4 * sum(weight**2 for weight in WEIGHTS))


def test_ratios_of_picks_by_hand():
    # Only 2.0 (advantage above 0) is clipped above; below only 0.7 (advantage below 0); 4.0 wants to go down, and is
    # not; selections without an advantage never are.
    expected = {"ratio_max": 4.0, "ess": ESS, "clip_low": 1 / 9, "clip_high": 1 / 9, "clip_share": 2 / 9}
    assert update("token") == pytest.approx(expected)


def test_ratios_of_selections_by_hand():
    expected = {"ratio_max": 4.0, "ess": ESS, "clip_low": 0.0, "clip_high": 0.0, "clip_share": 0.0}
    assert update("sequence") == pytest.approx(expected)
    assert update("sequence", epsilon=0.1)["clip_low"] == 1 / 4  # sqrt(.77) = .877


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_policy_that_has_not_moved_has_ratio_one(level):
    row = update(level, ratios=torch.where(RATIOS.isnan(), RATIOS, 1.0))
    assert row == {"ratio_max": 1.0, "ess": 1.0, "clip_low": 0.0, "clip_high": 0.0, "clip_share": 0.0}


def test_ratios_that_are_all_below_one_have_the_largest_of_them():
    row = update("token", ratios=torch.where(RATIOS.isnan(), RATIOS, 0.5))
    assert row["ratio_max"] == pytest.approx(0.5)
    assert row["ess"] == pytest.approx(1.0**2 / (4 * (2 * 0.125**2 + 0.25**2 + 0.5**2)))


def test_one_selection_that_has_all_the_weight_is_an_effective_sample_of_one():
    row = update("token", ratios=torch.tensor([[1.0], [math.exp(700)], [1.0], [1.0]], dtype=torch.float64))
    assert row["ess"] == pytest.approx(1 / 4)


def test_entropy_is_a_mean_over_selections_and_kl_one_over_picks():
    entropy_RK = torch.tensor([[1.0, 2.0, 3.0], [4.0, NAN, NAN], [5.0, 1.0, NAN], [0.0, 0.0, 0.0]])
    kl_RK = torch.tensor([[1.0, 2.0, 6.0], [7.0, NAN, NAN], [0.5, 1.5, NAN], [0.1, 0.1, 0.1]])
    mask_RK = ~entropy_RK.isnan()
    k_R, maximum_R = torch.tensor([3, 1, 2, 3]), torch.tensor([12.0, 5.0, 8.0, 0.0], dtype=torch.float64)
    row = policy_diagnostics(entropy_RK, kl_RK, mask_RK, k_R, maximum_R)
    expected = {
        "entropy": (0.5 + 0.8 + 0.75) / 3,
        "entropy@1": 0.8,
        "entropy@2-3": (0.5 + 0.75) / 2,
        "kl": (9 + 7 + 2 + 0.3) / 9,
        "kl@1": 7.0,
        "kl@2-3": (9 + 2 + 0.3) / 8,
    }
    assert row == pytest.approx(expected)


def test_there_is_no_entropy_where_no_selection_has_a_choice():
    entropy_RK, mask_RK, k_R = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.tensor([3, 3])
    row = policy_diagnostics(entropy_RK, entropy_RK, mask_RK, k_R, torch.zeros(2))
    assert row == {"kl": 0.0, "kl@2-3": 0.0}


def enumerated(distribution: str, scores_SN: torch.Tensor, k: int) -> torch.Tensor:
    """Entropies, from every selection's probability by the distribution's definition; S is over policies."""
    n = scores_SN.shape[1]
    weights_SN = scores_SN.exp()
    if distribution == "plackett_luce":
        orders = torch.tensor(list(itertools.permutations(range(n), k)))
        picked = weights_SN[:, orders]
        left = weights_SN.sum(1)[:, None, None] - picked.cumsum(-1) + picked
        p = (picked / left).prod(-1)
    else:
        odds_SN = k * scores_SN.softmax(1) if distribution == "bernoulli" else weights_SN
        sizes = range(1, n + 1) if distribution == "bernoulli" else [k]
        sets = [list(kept) for m in sizes for kept in itertools.combinations(range(n), m)]
        p = torch.stack([odds_SN[:, kept].prod(1) for kept in sets], dim=1)
    return torch.special.entr(p / p.sum(1, keepdim=True)).sum(1)


@pytest.mark.parametrize("distribution", ["plackett_luce", "conditional_bernoulli", "bernoulli"])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_the_maximum_is_the_entropy_at_flat_scores_and_no_scores_have_more(distribution, k):
    maximum = maximum_entropy(distribution, torch.tensor([k]), torch.tensor([5]))
    torch.testing.assert_close(maximum, enumerated(distribution, torch.zeros(1, 5, dtype=torch.float64), k))
    scores = torch.randn(100, 5, generator=torch_generator(0, "test"), dtype=torch.float64)
    for spread in (0.1, 2.0):
        assert (enumerated(distribution, scores * spread, k) <= maximum + 1e-9).all()


def test_maxima_are_each_prompts_own():
    k_B, n_B = torch.tensor([1, 3, 4]), torch.tensor([7, 5, 4])
    ordered = [math.log(7), math.log(5 * 4 * 3), math.log(24)]
    assert maximum_entropy("plackett_luce", k_B, n_B).tolist() == pytest.approx(ordered)
    sets = maximum_entropy("conditional_bernoulli", k_B, n_B).tolist()
    assert sets == pytest.approx([math.log(7), math.log(10), 0.0])
    assert sets[2] == 0.0
    assert maximum_entropy("bernoulli", k_B, n_B).tolist()[2] == pytest.approx(math.log(15))


def test_maxima_of_many_tokens_are_finite():
    k_B, n_B = torch.tensor([1, 500, 2880]), torch.tensor([2880, 2880, 2880])
    for name in ("plackett_luce", "conditional_bernoulli", "bernoulli"):
        assert maximum_entropy(name, k_B, n_B).isfinite().all()
