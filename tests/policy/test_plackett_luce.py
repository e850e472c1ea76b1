"""Plackett-Luce against enumeration and against its O(N K) definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chisquare

from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.seeds import torch_generator

SCORES = torch.tensor([0.3, -1.2, 2.0, 0.0, -0.5], dtype=torch.float64)
OTHER = torch.tensor([-0.7, 0.4, 0.9, 1.5, 0.0], dtype=torch.float64)


def distribution(scores: torch.Tensor, k: int) -> PlackettLuce:
    return PlackettLuce(scores[None], torch.tensor([k]))


def orders(n: int, k: int) -> torch.Tensor:
    """Every ordered selection of k of n, (1, G, k)."""
    return torch.tensor(list(itertools.permutations(range(n), k)))[None]


def naive_log_probs(scores_N: torch.Tensor, order: list[int]) -> list[torch.Tensor]:
    """The definition: at each pick, log_softmax over the tokens that are left."""
    left = list(range(len(scores_N)))
    picks = []
    for token in order:
        picks.append(scores_N[left].log_softmax(0))
        picks[-1] = (picks[-1], left.index(token))
        left.remove(token)
    return picks


def naive(scores_N: torch.Tensor, other_N: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Log-probability, entropy and KL of each pick, (3, K)."""
    rows = []
    for (own, at), (theirs, _) in zip(naive_log_probs(scores_N, order), naive_log_probs(other_N, order), strict=True):
        probability = own.exp()
        rows.append(torch.stack([own[at], -(probability * own).sum(), (probability * (own - theirs)).sum()]))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_probabilities_sum_to_one(k):
    log_prob = distribution(SCORES, k).log_prob(orders(5, k)).sum(-1)
    torch.testing.assert_close(log_prob.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_entropy_and_kl_are_right_in_expectation_over_the_path(k):
    own, other, paths = distribution(SCORES, k), distribution(OTHER, k), orders(5, k)
    log_p, log_q = own.log_prob(paths).sum(-1), other.log_prob(paths).sum(-1)
    p = log_p.exp()
    torch.testing.assert_close((p * own.entropy(paths).sum(-1)).sum(), -(p * log_p).sum())
    torch.testing.assert_close((p * own.kl(other, paths).sum(-1)).sum(), (p * (log_p - log_q)).sum())
    assert (own.kl(other, paths) >= -1e-12).all()
    assert own.kl(own, paths).abs().max() < 1e-12


@pytest.mark.parametrize("order", [[2], [0, 3], [4, 1, 2], [3, 0, 1, 2, 4]])
def test_values_and_gradients_are_those_of_the_definition(order):
    scores, other = SCORES.clone().requires_grad_(), OTHER.clone().requires_grad_()
    own, theirs = distribution(scores, len(order)), distribution(other, len(order))
    path = torch.tensor(order)[None, None]
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


@pytest.mark.parametrize("k", [1, 2, 4])
def test_samples_have_the_enumerated_frequencies(k):
    scores = SCORES[:4]
    paths = orders(4, k)
    expected = distribution(scores, k).log_prob(paths).sum(-1).exp()[0]
    drawn = distribution(scores, k).sample(20000, torch_generator(0, "test"))[0]
    base = 4 ** torch.arange(k)
    places = {int((path * base).sum()): i for i, path in enumerate(paths[0])}
    counts = torch.bincount(
        torch.tensor([places[key] for key in (drawn * base).sum(-1).tolist()]), minlength=len(places)
    )
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def test_a_sample_is_decided_by_its_generator():
    policy = distribution(SCORES, 3)
    first, again, other = (policy.sample(50, torch_generator(seed, "test")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shifting_all_scores_changes_nothing():
    paths = orders(5, 3)
    torch.testing.assert_close(distribution(SCORES + 100, 3).log_prob(paths), distribution(SCORES, 3).log_prob(paths))
    torch.testing.assert_close(distribution(SCORES + 100, 3).entropy(paths), distribution(SCORES, 3).entropy(paths))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_stay_finite(dtype):
    scores = torch.tensor([1e4, -1e4, 0.0, 1e4], dtype=dtype, requires_grad=True)
    other = torch.tensor([-1e4, 1e4, 0.0, 0.0], dtype=dtype)
    own = distribution(scores, 4)
    likely, unlikely = torch.tensor([[[0, 3, 2, 1]]]), torch.tensor([[[1, 2, 0, 3]]])
    step = 1e4 * torch.finfo(dtype).eps  # what the type can tell apart beside scores of this size
    expected = torch.tensor([0.5, 1, 1, 1], dtype=dtype).log()
    torch.testing.assert_close(own.log_prob(likely)[0, 0], expected, rtol=0, atol=step)
    torch.testing.assert_close(
        own.log_prob(unlikely)[0, 0, :2], torch.tensor([-2e4, -1e4], dtype=dtype), rtol=1e-3, atol=0
    )
    for path in (likely, unlikely):
        values = torch.cat([own.log_prob(path), own.entropy(path), own.kl(distribution(other, 4), path)])
        assert values.isfinite().all()
        (slope,) = torch.autograd.grad(values.sum(), scores, retain_graph=True)
        assert slope.isfinite().all()
    assert own.sample(20, torch_generator(0, "test"))[0, :, 2:].tolist() == [[2, 1]] * 20


def test_keeping_all_tokens_leaves_the_last_pick_no_choice():
    policy, paths = distribution(SCORES, 5), orders(5, 5)
    assert policy.log_prob(paths)[..., -1].abs().max() < 1e-12
    assert policy.entropy(paths)[..., -1].abs().max() < 1e-12


def test_a_batch_of_budgets_and_paddings_is_its_single_prompts():
    infinite = float("-inf")
    scores = torch.stack([SCORES, OTHER, torch.tensor([0.5, 1.0, 0.2, infinite, infinite], dtype=torch.float64)])
    other = torch.stack([OTHER, SCORES, torch.tensor([0.0, 0.3, 2.0, infinite, infinite], dtype=torch.float64)])
    budgets = torch.tensor([2, 4, 3])
    scores, other = scores.requires_grad_(), other.requires_grad_()
    batch, reference = PlackettLuce(scores, budgets), PlackettLuce(other, budgets)
    drawn = batch.sample(6, torch_generator(0, "test"))
    assert drawn.shape == (3, 6, 4)
    values = torch.stack([batch.log_prob(drawn), batch.entropy(drawn), batch.kl(reference, drawn)])
    for row, k in enumerate(budgets.tolist()):
        real = int((scores[row] > infinite).sum())
        assert drawn[row, :, :k].max() < real
        assert all(len(set(path)) == k for path in drawn[row, :, :k].tolist())
        for group in range(6):
            expected = naive(scores[row, :real], other[row, :real], drawn[row, group, :k].tolist())
            torch.testing.assert_close(values[:, row, group, :k], expected)
        assert not values[:, row, :, k:].any()
    slopes = torch.autograd.grad(values.sum(), (scores, other))
    assert all(slope.isfinite().all() for slope in slopes)
    assert not any(slope[2, 3:].any() for slope in slopes)


def test_the_mode_is_the_best_first():
    scores = torch.stack([SCORES, OTHER])
    assert PlackettLuce(scores, torch.tensor([3, 2])).mode().tolist() == [[2, 0, 3], [3, 2, 0]]
    paths = orders(5, 3)
    best = distribution(SCORES, 3).log_prob(paths).sum(-1).argmax()
    assert paths[0, best].tolist() == distribution(SCORES, 3).mode()[0].tolist()


def test_half_precision_is_computed_in_single():
    assert distribution(SCORES.bfloat16(), 2).log_prob(orders(5, 2)).dtype == torch.float32


@pytest.mark.parametrize(("k", "padded"), [(0, 0), (6, 0), (5, 1)])
def test_impossible_budgets_are_refused(k, padded):
    scores = SCORES.clone()
    scores[5 - padded :] = float("-inf")
    with pytest.raises(ValueError, match=rf"got budgets \[{k}\] for \[{5 - padded}\] tokens"):
        distribution(scores, k)
