"""Independent Bernoulli by hand, and what the condition "not empty" does."""

from __future__ import annotations

import math

import pytest
import torch

from grip_core.policy.bernoulli import IndependentBernoulli
from grip_core.seeds import torch_generator
from tests.policy.enumeration import SCORES, log_probs, outcomes, picks_from

INFINITE = float("-inf")


def distribution(scores: torch.Tensor, k: int) -> IndependentBernoulli:
    return IndependentBernoulli(scores[None], torch.tensor([k]))


def test_flat_scores_by_hand():
    """Four tokens, k = 2: odds of 1/2, so that all sets but the empty one have weights 2^-size, 65/16 in all."""
    own = distribution(torch.full((4,), 3.0, dtype=torch.float64), 2)
    log_prob = own.log_prob(picks_from([(1,), (0, 3), (0, 1, 2, 3)]))[0]
    expected = (torch.tensor([8.0, 4.0, 1.0], dtype=torch.float64) / 65).log()
    torch.testing.assert_close(log_prob.sum(-1), expected)
    torch.testing.assert_close(log_prob[1, :2], expected[1].expand(2) / 2)
    torch.testing.assert_close(own.marginals().sum(1), torch.tensor([108 / 65], dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_expected_size_is_the_enumerated_one(k):
    scores = SCORES.clone().requires_grad_()
    sizes = torch.tensor([float(len(kept)) for kept in outcomes("bernoulli", 5, k)], dtype=torch.float64)
    enumerated = (log_probs("bernoulli", scores, k).exp() * sizes).sum()
    actual = distribution(scores, k).marginals().sum(1)[0]
    torch.testing.assert_close(actual, enumerated)
    torch.testing.assert_close(torch.autograd.grad(actual, scores), torch.autograd.grad(enumerated, scores))


def test_the_budget_is_about_the_size_where_scores_are_flat_and_tokens_many():
    flat = torch.zeros(3, 2000)
    sizes = IndependentBernoulli(flat, torch.tensor([10, 20, 40])).marginals().sum(1)
    torch.testing.assert_close(sizes.float(), torch.tensor([10.0, 20.0, 40.0]), rtol=0.02, atol=0)
    peaked = IndependentBernoulli(torch.tensor([[50.0] + [0.0] * 99]), torch.tensor([40])).marginals().sum(1)
    torch.testing.assert_close(peaked.float(), torch.ones(1))


def test_many_tokens_and_large_budgets_do_not_overflow():
    own = IndependentBernoulli(torch.zeros(1, 2880), torch.tensor([1000]))
    picks = own.sample(2, torch_generator(0, "test"))
    assert own.log_normaliser().item() == pytest.approx(2880 * math.log1p(1000 / 2880))
    assert own.log_prob(picks).isfinite().all()


def test_sizes_vary_around_the_expected_one_and_are_never_zero():
    own = IndependentBernoulli(torch.zeros(2, 30), torch.tensor([1, 8]))
    size_BG = own.sample(20000, torch_generator(0, "test")).mask_BGK.sum(-1).double()
    assert (size_BG.min(1).values == 1).all()
    error = size_BG.std(1) / 20000**0.5
    assert ((size_BG.mean(1) - own.marginals().sum(1)).abs() < 4 * error).all()


@pytest.mark.parametrize(("uniform", "kept"), [(0.0, [1, 2]), (1.0 - 2.0**-53, [2])])
def test_the_edges_of_the_generator_s_range_keep_real_tokens(monkeypatch, uniform, kept):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, uniform, dtype=torch.float64))
    scores = torch.tensor([INFINITE, 0.0, 0.7, INFINITE])
    picks = distribution(scores, 1).sample(1, torch_generator(0, "test"))
    assert picks.index_BGK[picks.mask_BGK].tolist() == kept
