"""KL and entropy terms against enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

from grip_core.policy.conditional_bernoulli import ConditionalBernoulli
from grip_core.policy.distribution import Picks
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.rl.regularizers import ESTIMATORS, exact_entropy, exact_kl, sampled_kl, selection_mean

N, K = 5, 2
SCORES = torch.tensor([[0.3, -1.2, 1.0, 0.0, -0.5]], dtype=torch.float64)
OTHER = torch.tensor([[-0.7, 0.4, 0.9, 0.5, 0.0]], dtype=torch.float64)
KINDS = {
    "plackett_luce": (PlackettLuce, itertools.permutations),
    "sets": (ConditionalBernoulli, itertools.combinations),
}


@pytest.fixture(params=KINDS)
def every(request):
    """A distribution's class, and every selection there is of it."""
    kind, enumerate_all = KINDS[request.param]
    index = torch.tensor(list(enumerate_all(range(N), K)))[None]
    return kind, Picks(index, torch.ones_like(index, dtype=torch.bool))


def whole(kind, scores_1N, picks):
    """Log-probability of every selection, (1, G)."""
    return kind(scores_1N, torch.tensor([K])).log_prob(picks).sum(-1)


def gradient(value: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, scores, retain_graph=True)[0]


def test_what_the_estimators_are_in_expectation():
    """For a categorical, as a pick is: k1 and k3 are the KL; as losses k1 is nothing, k2 reverse, k3 forward KL."""
    scores, other = SCORES[0].clone().requires_grad_(), OTHER[0].clone()
    log_p, log_q = scores.log_softmax(0), other.log_softmax(0)
    p = log_p.exp().detach()
    reverse, forward = (log_p.exp() * (log_p - log_q)).sum(), (log_q.exp() * (log_q - log_p)).sum()
    expected = {name: (p * estimator(log_p - log_q)).sum() for name, estimator in ESTIMATORS.items()}
    torch.testing.assert_close(expected["k1"], reverse)
    torch.testing.assert_close(expected["k3"], reverse)
    assert gradient(expected["k1"], scores).abs().max() < 1e-12
    torch.testing.assert_close(gradient(expected["k2"], scores), gradient(reverse, scores))
    torch.testing.assert_close(gradient(expected["k3"], scores), gradient(forward, scores))
    assert ESTIMATORS["k3"](torch.tensor([-3.0, 0.0, 2.0])).min() == 0.0


@pytest.mark.parametrize("moved", [False, True])
def test_exact_terms_are_the_enumerated_ones_with_their_gradients(every, moved):
    """Also off-policy: the selections come from scores that the policy has left since."""
    kind, picks = every
    scores = SCORES.clone().requires_grad_()
    old = OTHER * 0.5 if moved else SCORES
    policy, reference = (kind(values, torch.tensor([K])) for values in (scores, OTHER))
    log_prob_BGK, old_BGK = policy.log_prob(picks), kind(old, torch.tensor([K])).log_prob(picks)
    weight_BG = old_BGK.sum(-1).exp()  # how often each selection is drawn
    log_p, log_q = whole(kind, scores, picks), whole(kind, OTHER, picks)
    for found_BG, wanted in (
        (exact_kl(policy, reference, picks, log_prob_BGK, old_BGK), (log_p.exp() * (log_p - log_q)).sum() / K),
        (exact_entropy(policy, picks, log_prob_BGK, old_BGK), -(log_p.exp() * log_p).sum() / K),
    ):
        found = (weight_BG * found_BG).sum()
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(gradient(found, scores), gradient(wanted, scores))


def test_the_sampled_kl_leaves_padding_out():
    picks = Picks(torch.tensor([[[3, 1, 0]]]), torch.tensor([[[True, True, False]]]))
    log_prob, reference = torch.tensor([[[-1.0, -2.0, 9.0]]]), torch.tensor([[[-2.0, -2.5, 0.0]]])
    assert sampled_kl("k1", log_prob, reference, picks).tolist() == [[0.75]]
    assert selection_mean(log_prob, picks).tolist() == [[-1.5]]
