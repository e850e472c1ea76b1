"""Conditional Bernoulli beyond enumeration: against the recursion for elementary symmetric polynomials."""

from __future__ import annotations

import math

import pytest
import torch

from grip_core.policy.conditional_bernoulli import ConditionalBernoulli, balance
from grip_core.policy.distribution import Picks
from grip_core.seeds import torch_generator
from tests.policy.enumeration import OTHER, SCORES, log_probs, outcomes, picks_from

INFINITE = float("-inf")


def recursion(scores_N: torch.Tensor, k: int) -> torch.Tensor:
    """log e_k(exp(scores)), by e_j <- e_j + e_j-1 * exp(score), token by token, in logarithms."""
    log_e = [torch.zeros((), dtype=torch.float64)] + [None] * k
    for score in scores_N:
        for j in range(k, 0, -1):
            grown = [] if log_e[j - 1] is None else [log_e[j - 1] + score]
            terms = grown + ([] if log_e[j] is None else [log_e[j]])
            log_e[j] = torch.stack(terms).logsumexp(0) if terms else None
    return log_e[k]


def random_scores(n: int, spread: float) -> torch.Tensor:
    return spread * torch.randn(n, generator=torch_generator(0, "test"), dtype=torch.float64)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("k", [1, 7, 23, 24])
def test_more_tokens_than_can_be_enumerated(k, spread):
    """Values and gradients of log-probability, entropy and KL; the recursion's marginals are its gradient."""
    scores, other = random_scores(24, spread).requires_grad_(), random_scores(25, 1.0)[1:].requires_grad_()
    own, theirs = (ConditionalBernoulli(each[None], torch.tensor([k])) for each in (scores, other))
    kept = torch.arange(24 - k, 24)
    picks = Picks(kept[None, None], torch.ones(1, 1, k, dtype=torch.bool))
    log_e, other_log_e = recursion(scores, k), recursion(other, k)
    (marginals,) = torch.autograd.grad(log_e, scores, create_graph=True)
    torch.testing.assert_close(own.marginals()[0], marginals, rtol=1e-9, atol=1e-12)
    pairs = [
        (own.log_prob(picks).sum(), scores[kept].sum() - log_e),
        (own.entropy(picks).sum(), log_e - (marginals * scores).sum()),
        (own.kl(theirs, picks).sum(), (marginals * (scores - other)).sum() - log_e + other_log_e),
    ]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
        for slopes in zip(*(torch.autograd.grad(value, (scores, other), **options) for value in (actual, expected))):
            torch.testing.assert_close(*slopes, rtol=0, atol=1e-9)


def test_marginals_and_the_normaliser_s_curvature_are_enumerated():
    scores = SCORES.clone().requires_grad_()
    own = ConditionalBernoulli(scores[None], torch.tensor([2]))
    kept = torch.zeros(10, 5, dtype=torch.float64).scatter(
        1, torch.tensor(outcomes("conditional_bernoulli", 5, 2)), 1.0
    )
    probability = log_probs("conditional_bernoulli", SCORES, 2).exp()
    mean = probability @ kept
    covariance = (kept - mean).T @ (probability[:, None] * (kept - mean))
    torch.testing.assert_close(own.marginals()[0], mean)
    for curvature in (
        torch.autograd.functional.jacobian(own_marginals, SCORES),
        torch.autograd.functional.hessian(own_log_normaliser, SCORES),
    ):
        torch.testing.assert_close(curvature, covariance)


def own_marginals(scores: torch.Tensor) -> torch.Tensor:
    return ConditionalBernoulli(scores[None], torch.tensor([2])).marginals()[0]


def own_log_normaliser(scores: torch.Tensor) -> torch.Tensor:
    return ConditionalBernoulli(scores[None], torch.tensor([2])).log_normaliser()[0]


@pytest.mark.parametrize(("n", "k"), [(2880, 640), (2880, 1), (2880, 2879), (576, 192)])
def test_flat_scores_of_many_tokens_have_binomial_coefficients(n, k):
    scores = torch.full((1, n), 5.0, requires_grad=True)
    own = ConditionalBernoulli(scores, torch.tensor([k]))
    picks = Picks(torch.arange(k)[None, None], torch.ones(1, 1, k, dtype=torch.bool))
    sets = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    totals = torch.stack([own.log_prob(picks), own.entropy(picks)]).double().sum((1, 2, 3))
    assert totals.tolist() == pytest.approx([-sets, sets], rel=1e-6)
    torch.testing.assert_close(own.marginals(), torch.full((1, n), k / n, dtype=torch.float64), rtol=1e-10, atol=0)
    (slope,) = torch.autograd.grad(own.entropy(picks).sum(), scores)  # flat scores have the most entropy
    assert slope.abs().max() < 1e-9


def test_all_selections_of_a_prompt_have_the_same_shares():
    own, other = (ConditionalBernoulli(each[None], torch.tensor([3])) for each in (SCORES, OTHER))
    picks = picks_from(outcomes("conditional_bernoulli", 5, 3))
    for values in (own.entropy(picks), own.kl(other, picks)):
        assert torch.equal(values, values[:, :1, :1].expand_as(values))
    log_prob = own.log_prob(picks)
    assert torch.equal(log_prob, log_prob[..., :1].expand_as(log_prob))


@pytest.mark.parametrize("spread", [0.0, 1.0, 20.0])
def test_the_balance_makes_independent_picks_keep_k_on_average(spread):
    scores = random_scores(50, spread)
    budgets = torch.arange(1, 50)
    shifted = scores + balance(scores.expand(49, -1), budgets)
    torch.testing.assert_close(shifted.sigmoid().sum(1), budgets.double(), rtol=0, atol=0.01)


def test_the_balance_survives_gaps_and_padding():
    scores = torch.tensor([[1e4, 0.0, -1e4, INFINITE]] * 3, dtype=torch.float64)
    kept = (scores + balance(scores, torch.tensor([1, 2, 3]))).sigmoid()
    torch.testing.assert_close(kept, torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.float64))


@pytest.mark.parametrize("n", [36, 40])
def test_many_tokens_are_sampled_with_their_marginals(n):
    """A whole number of blocks of the sampler, and not; pairs as well, for marginals alone would not show order."""
    scores, k, draws = random_scores(n, 1.5), 9, 20000
    own = ConditionalBernoulli(scores[None], torch.tensor([k]))
    kept = own.keep(draws, torch_generator(1, "test"))[0].double()
    assert (kept.sum(1) == k).all()
    marginals = own.marginals()[0]
    error = (marginals * (1 - marginals) / draws).sqrt()
    assert ((kept.mean(0) - marginals).abs() < 4.5 * error).all()
    covariance = torch.autograd.functional.jacobian(
        lambda x: ConditionalBernoulli(x[None], torch.tensor([k])).marginals()[0], scores
    )
    pairs = covariance + marginals[:, None] * marginals
    error = (pairs * (1 - pairs) / draws).clamp_min(0).sqrt() + 1 / draws
    assert ((kept.T @ kept / draws - pairs).abs() < 4.5 * error).all()
