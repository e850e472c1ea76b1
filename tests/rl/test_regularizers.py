"""KL and entropy terms against enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

from grip_core.policy.conditional_bernoulli import ConditionalBernoulli
from grip_core.policy.distribution import Picks
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.rl.regularizers import ESTIMATORS, exact_entropy, exact_kl, sampled_kl, selection_mean
from grip_core.seeds import torch_generator

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
    """In expectation over groups of two. Also off-policy: they come from scores that the policy has left since."""
    kind, single = every
    scores = SCORES.clone().requires_grad_()
    old = OTHER * 0.5 if moved else SCORES
    count = single.index_BGK.shape[1]
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    picks = Picks(single.index_BGK[0][pairs], single.mask_BGK[0][pairs])  # a prompt for every group there is
    many = [values.expand(len(pairs), -1) for values in (scores, OTHER, old)]
    policy, reference, before = (kind(values, torch.full((len(pairs),), K)) for values in many)
    log_prob_BGK, old_BGK = policy.log_prob(picks), before.log_prob(picks)
    weight_B = old_BGK.sum((1, 2)).exp()  # how often each group is drawn
    log_p, log_q = whole(kind, scores, single), whole(kind, OTHER, single)
    for found_BG, wanted in (
        (exact_kl(policy, reference, picks, log_prob_BGK, old_BGK), (log_p.exp() * (log_p - log_q)).sum() / K),
        (exact_entropy(policy, picks, log_prob_BGK, old_BGK), -(log_p.exp() * log_p).sum() / K),
    ):
        found = (weight_B * found_BG.mean(1)).sum()
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(gradient(found, scores), gradient(wanted, scores))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_sampled_kls_are_the_enumerated_one_in_expectation(every, estimator):
    kind, picks = every
    log_prob, reference = (kind(values, torch.tensor([K])).log_prob(picks) for values in (SCORES, OTHER))
    log_p, log_q = log_prob.sum(-1), reference.sum(-1)
    found_BG = sampled_kl(estimator, kind is PlackettLuce, log_prob, reference, picks)
    torch.testing.assert_close((log_p.exp() * found_BG).sum(), (log_p.exp() * (log_p - log_q)).sum() / K)


def test_k2_of_sets_pulls_as_their_kl_does():
    index = torch.tensor(list(itertools.combinations(range(N), K)))[None]
    picks = Picks(index, torch.ones_like(index, dtype=torch.bool))
    scores = SCORES.clone().requires_grad_()
    log_prob = ConditionalBernoulli(scores, torch.tensor([K])).log_prob(picks)
    reference = ConditionalBernoulli(OTHER, torch.tensor([K])).log_prob(picks)
    log_p = log_prob.sum(-1)
    found = (log_p.exp().detach() * sampled_kl("k2", False, log_prob, reference, picks)).sum()
    wanted = (log_p.exp() * (log_p - reference.sum(-1))).sum() / K
    torch.testing.assert_close(gradient(found, scores), gradient(wanted, scores))


def test_of_the_estimators_k1_alone_may_be_taken_off_the_reward():
    """What acts there is E[estimate * grad log p]. That of k1 is the KL's gradient; those of k2 and k3 point away."""
    scores, other = SCORES[0].clone().requires_grad_(), SCORES[0] + 0.2 * OTHER[0]
    log_p, log_q = scores.log_softmax(0), other.log_softmax(0)
    wanted = gradient((log_p.exp() * (log_p - log_q)).sum(), scores)
    weighted = {name: log_p.exp().detach() * each(log_p - log_q).detach() for name, each in ESTIMATORS.items()}
    found = {name: gradient((values * log_p).sum(), scores) for name, values in weighted.items()}
    torch.testing.assert_close(found["k1"], wanted)
    for name in ("k2", "k3"):
        assert torch.nn.functional.cosine_similarity(found[name], wanted, dim=0) < 0.9
        assert found[name].norm() < 0.5 * wanted.norm()


def test_the_entropy_of_a_flat_policy_has_no_noise():
    """No path is better than another there; without a baseline each would be pushed by the whole entropy."""
    scores = torch.zeros(1, 50, dtype=torch.float64, requires_grad=True)
    policy = PlackettLuce(scores, torch.tensor([10]))
    picks = policy.sample(8, torch_generator(0, "test"))
    log_prob = policy.log_prob(picks)
    assert gradient(exact_entropy(policy, picks, log_prob, log_prob.detach()).mean(), scores).abs().max() < 1e-12


def test_the_sampled_kl_leaves_padding_out():
    picks = Picks(torch.tensor([[[3, 1, 0]]]), torch.tensor([[[True, True, False]]]))
    log_prob, reference = torch.tensor([[[-1.0, -2.0, 9.0]]]), torch.tensor([[[-2.0, -2.5, 0.0]]])
    assert sampled_kl("k1", True, log_prob, reference, picks).tolist() == [[0.75]]
    assert selection_mean(log_prob, picks).tolist() == [[-1.5]]
