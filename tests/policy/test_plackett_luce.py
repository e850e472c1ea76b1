"""Plackett-Luce against its O(N K) definition, and path estimates against enumeration."""

from __future__ import annotations

import pytest
import torch

from grip_core.policy.distribution import path_expectation
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.seeds import torch_generator
from tests.policy.enumeration import OTHER, SCORES, log_probs, outcomes, picks_from

EVERY_ORDER = outcomes("plackett_luce", 5, 3)


def distribution(scores: torch.Tensor, k: int) -> PlackettLuce:
    return PlackettLuce(scores[None], torch.tensor([k]))


def naive(scores_N: torch.Tensor, other_N: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The definition, over the tokens left before each pick: log-probability, entropy and KL of the pick, (3, K)."""
    rows = []
    for j, token in enumerate(order):
        left = [other for other in range(len(scores_N)) if other not in order[:j]]
        own, theirs = scores_N[left].log_softmax(0), other_N[left].log_softmax(0)
        probability = own.exp()
        entropy, kl = -(probability * own).sum(), (probability * (own - theirs)).sum()
        rows.append(torch.stack([own[left.index(token)], entropy, kl]))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("order", [(2,), (0, 3), (4, 1, 2), (3, 0, 1, 2, 4)])
def test_each_pick_s_values_and_gradients_are_those_of_the_definition(order):
    scores, other = SCORES.clone().requires_grad_(), OTHER.clone().requires_grad_()
    own, theirs, path = distribution(scores, len(order)), distribution(other, len(order)), picks_from([order])
    fast = torch.stack([own.log_prob(path)[0, 0], own.entropy(path)[0, 0], own.kl(theirs, path)[0, 0]])
    slow = naive(scores, other, order)
    torch.testing.assert_close(fast, slow)
    weights = torch.linspace(0.5, 2.0, fast.numel(), dtype=torch.float64).view_as(fast)
    for actual, expected in zip(
        torch.autograd.grad((fast * weights).sum(), (scores, other)),
        torch.autograd.grad((slow * weights).sum(), (scores, other)),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("quantity", ["entropy", "kl"])
@pytest.mark.parametrize("old", [SCORES, SCORES + 0.8 * OTHER], ids=["on-policy", "off-policy"])
def test_the_path_expectation_has_the_enumerated_value_and_gradient(quantity, old):
    scores, other = SCORES.clone().requires_grad_(), OTHER.clone().requires_grad_()
    own, theirs, drawn_by = distribution(scores, 3), distribution(other, 3), distribution(old, 3)
    paths = picks_from(EVERY_ORDER)
    log_p, log_q = log_probs("plackett_luce", scores, 3), log_probs("plackett_luce", other, 3)
    enumerated = -(log_p.exp() * (log_p if quantity == "entropy" else log_q - log_p)).sum()
    (true,) = torch.autograd.grad(enumerated, scores)

    values = own.entropy(paths) if quantity == "entropy" else own.kl(theirs, paths)
    frequency = log_probs("plackett_luce", old, 3).exp()
    estimates = path_expectation(values, own.log_prob(paths), drawn_by.log_prob(paths)).sum(-1)[0]
    expectation = (frequency * estimates).sum()
    torch.testing.assert_close(expectation, enumerated)
    (slope,) = torch.autograd.grad(expectation, scores, retain_graph=True)
    torch.testing.assert_close(slope, true)

    (plain,) = torch.autograd.grad((frequency * values.sum(-1)[0]).sum(), scores)
    assert (plain - true).norm() > 0.1 * true.norm()  # what autograd alone would give
    if old is SCORES:
        torch.testing.assert_close(estimates, values.sum(-1)[0])


def test_only_earlier_picks_weigh_a_path_s_estimate():
    log_prob = torch.tensor([[[-1.0, -2.0, -3.0]]], requires_grad=True)
    old = torch.tensor([[[-1.5, -2.0, 5.0]]])
    values = torch.tensor([[[2.0, 3.0, 4.0]]])
    estimate = path_expectation(values, log_prob, old)
    ratio = torch.tensor(0.5).exp()
    torch.testing.assert_close(estimate, torch.stack([torch.tensor(2.0), 3 * ratio, 4 * ratio])[None, None])
    (slope,) = torch.autograd.grad(estimate.sum(), log_prob)
    torch.testing.assert_close(slope, torch.stack([7 * ratio, 4 * ratio, torch.tensor(0.0)])[None, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_keep_their_digits(dtype):
    own = distribution(torch.tensor([1e4, -1e4, 0.0, 1e4], dtype=dtype), 4)
    step = 1e4 * torch.finfo(dtype).eps  # what the type can tell apart beside scores of this size
    likely, unlikely = own.log_prob(picks_from([(0, 3, 2, 1), (1, 2, 0, 3)]))[0]
    torch.testing.assert_close(likely, torch.tensor([0.5, 1, 1, 1], dtype=dtype).log(), rtol=0, atol=step)
    torch.testing.assert_close(unlikely[:2], torch.tensor([-2e4, -1e4], dtype=dtype), rtol=1e-3, atol=0)
    assert own.sample(20, torch_generator(0, "test")).index_BGK[0, :, 2:].tolist() == [[2, 1]] * 20


def test_keeping_all_tokens_leaves_the_last_pick_no_choice():
    policy, paths = distribution(SCORES, 5), picks_from(outcomes("plackett_luce", 5, 5))
    assert policy.log_prob(paths)[..., -1].abs().max() < 1e-12
    assert policy.entropy(paths)[..., -1].abs().max() < 1e-12
