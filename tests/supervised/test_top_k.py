"""Soft masks against their definition and finite differences, hard ones against the selection they stand for."""

from __future__ import annotations

import pytest
import torch

from grip_core.seeds import torch_generator
from grip_core.supervised.gumbel import straight_through
from grip_core.supervised.top_k import hard_top_k, soft_top_k
from tests.policy.enumeration import SCORES, log_probs, outcomes

PADDED = torch.tensor([[0.3, -1.0, 2.0, 0.5, 0.1], [1.0, 0.2, -0.4, float("-inf"), float("-inf")]], dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("k", [1, 2])
def test_a_soft_mask_is_a_sigmoid_of_shifted_scores_that_sums_to_k(k, temperature):
    mask_BN = soft_top_k(PADDED, torch.tensor([k, k]), temperature)
    torch.testing.assert_close(mask_BN.sum(1), torch.full((2,), float(k), dtype=torch.float64))
    assert not mask_BN[1, 3:].any()
    if temperature > 0.05:  # below, both ends round off
        shift_BN = mask_BN.logit() - PADDED / temperature
        assert (shift_BN[0] - shift_BN[0, 0]).abs().max() < 1e-9
        assert (shift_BN[1, :3] - shift_BN[1, 0]).abs().max() < 1e-9


def test_a_cold_soft_mask_is_the_hard_one():
    k_B = torch.tensor([2, 1])
    torch.testing.assert_close(soft_top_k(PADDED, k_B, 0.004), hard_top_k(PADDED, k_B))
    assert hard_top_k(PADDED, k_B).tolist() == [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]


def test_two_equal_scores_share_one_place():
    torch.testing.assert_close(soft_top_k(torch.zeros(1, 2), torch.tensor([1]), 1.0), torch.full((1, 2), 0.5))


def test_the_soft_mask_s_gradient_is_that_of_finite_differences():
    real_BN = PADDED[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: soft_top_k(scores, torch.tensor([2]), 0.7), real_BN)


def test_the_soft_mask_s_gradient_is_the_closed_form():
    """dm_i / dx_j = m'_i (delta_ij - m'_j / sum m'), over the temperature."""
    scores = PADDED[0].clone().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda x: soft_top_k(x[None], torch.tensor([2]), 0.5)[0], scores)
    mask = soft_top_k(scores[None], torch.tensor([2]), 0.5)[0].detach()
    slope = mask * (1 - mask)
    torch.testing.assert_close(jacobian, (slope.diag() - slope[:, None] * slope / slope.sum()) / 0.5)
    torch.testing.assert_close(jacobian.sum(0), torch.zeros(5, dtype=torch.float64))  # the sum stays k


@pytest.mark.parametrize("mask", [lambda *a: soft_top_k(*a, 1.0), hard_top_k], ids=["soft", "hard"])
def test_a_budget_of_all_tokens_or_more_keeps_all_without_a_gradient(mask):
    scores = PADDED.clone().requires_grad_()
    kept = mask(scores, torch.tensor([5, 4]))
    assert kept.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    if kept.requires_grad:
        (slope,) = torch.autograd.grad(kept.sum(), scores)
        assert not slope.any()


def test_far_apart_scores_give_finite_masks_and_gradients():
    scores = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    mask = soft_top_k(scores, torch.tensor([1]), 1.0)
    (slope,) = torch.autograd.grad(mask[0, 0], scores)
    torch.testing.assert_close(mask, torch.tensor([[1.0, 0.0, 0.0]]))
    assert slope.isfinite().all()


def test_the_straight_through_mask_is_hard_with_the_soft_one_s_gradient():
    scores = PADDED.clone().requires_grad_()
    mask = straight_through(scores, torch.tensor([2, 2]), 0.7, torch_generator(0, "test"))
    assert sorted(mask.detach().unique().tolist()) == [0, 1]
    assert mask.sum(1).tolist() == [2, 2]
    assert not mask[1, 3:].any()
    weights = torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)
    (slope,) = torch.autograd.grad((mask * weights).sum(), scores)
    assert slope[0].abs().min() > 0
    torch.testing.assert_close(slope.sum(1), torch.zeros(2, dtype=torch.float64))


def test_gumbel_masks_follow_plackett_luce():
    draws, k = 20_000, 2
    masks = straight_through(SCORES.expand(draws, -1), torch.full((draws,), k), 1.0, torch_generator(1, "test"))
    paths = outcomes("plackett_luce", 5, k)
    probability = dict.fromkeys({frozenset(path) for path in paths}, 0.0)
    for path, log_prob in zip(paths, log_probs("plackett_luce", SCORES, k), strict=True):
        probability[frozenset(path)] += log_prob.exp().item()
    for tokens, expected in probability.items():
        frequency = masks[:, list(tokens)].prod(1).mean().item()
        assert abs(frequency - expected) < 5 * (expected * (1 - expected) / draws) ** 0.5
