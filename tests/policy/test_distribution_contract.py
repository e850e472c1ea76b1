"""What every distribution over selections must satisfy, by enumeration of small prompts."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from grip_core.policy.distribution import Picks, path_expectation
from grip_core.policy.distributions import DISTRIBUTIONS
from grip_core.seeds import torch_generator
from tests.policy.enumeration import OTHER, SCORES, log_probs, outcomes, picks_from

INFINITE = float("-inf")
EXTREME = torch.tensor([1e4, -1e4, 0.0, 1e4, 3.0], dtype=torch.float64)
GAP = torch.tensor([44.0, 0.0, 44.0, 0.0, 0.0], dtype=torch.float64)  # logits of +-22: torch's softplus is cut at 20
MIXED = torch.stack([SCORES, OTHER, torch.tensor([0.5, INFINITE, 1.0, 0.2, INFINITE], dtype=torch.float64)])
MIXED_OTHER = torch.stack([OTHER, SCORES, torch.tensor([0.0, INFINITE, 0.3, 2.0, INFINITE], dtype=torch.float64)])
MIXED_K = torch.tensor([2, 4, 3])


@pytest.fixture(params=list(DISTRIBUTIONS))
def name(request):
    return request.param


def one(name, scores_N, k):
    return DISTRIBUTIONS[name](scores_N[None], torch.tensor([k]))


def every(name, k, n=5):
    return picks_from(outcomes(name, n, k))


def estimate(distribution, values_BGK, picks):
    """(B, G): exact, or a path estimate with the gradient that it must carry."""
    if not distribution.closed_form:
        log_prob_BGK = distribution.log_prob(picks)
        values_BGK = path_expectation(values_BGK, log_prob_BGK, log_prob_BGK)
    return values_BGK.sum(-1)


def test_names_are_the_registry_s_keys():
    assert list(DISTRIBUTIONS) == ["plackett_luce", "conditional_bernoulli", "bernoulli"]
    assert all(distribution.name == name for name, distribution in DISTRIBUTIONS.items())


@pytest.mark.parametrize("scores", [SCORES, SCORES + 1e3, GAP, EXTREME], ids=["usual", "shifted", "gap", "extreme"])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_log_probabilities_and_their_gradient_are_those_of_the_definition(name, k, scores):
    scores = scores.clone().requires_grad_()
    actual, expected = one(name, scores, k).log_prob(every(name, k)).sum(-1)[0], log_probs(name, scores, k)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(actual.exp().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-10)
    weights = torch.linspace(-1.0, 2.0, len(expected), dtype=torch.float64)
    slopes = [torch.autograd.grad((values * weights).sum(), scores)[0] for values in (actual, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_entropy_kl_and_their_gradients_are_the_enumerated_ones(name, k):
    scores, other = SCORES.clone().requires_grad_(), OTHER.clone().requires_grad_()
    own, theirs, picks = one(name, scores, k), one(name, other, k), every(name, k)
    log_p, log_q = log_probs(name, scores, k), log_probs(name, other, k)
    pairs = {
        "entropy": (own.entropy(picks), -(log_p.exp() * log_p).sum()),
        "kl": (own.kl(theirs, picks), (log_p.exp() * (log_p - log_q)).sum()),
    }
    for values_BGK, expected in pairs.values():
        estimates = estimate(own, values_BGK, picks)[0]
        actual = (log_p.detach().exp() * estimates).sum()
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
        if own.closed_form:
            torch.testing.assert_close(estimates, expected.expand_as(estimates), rtol=0, atol=1e-10)
        inputs = {"inputs": (scores, other), "allow_unused": True, "materialize_grads": True, "retain_graph": True}
        for slopes in zip(torch.autograd.grad(actual, **inputs), torch.autograd.grad(expected, **inputs), strict=True):
            torch.testing.assert_close(*slopes, rtol=0, atol=1e-10)


def test_a_distribution_does_not_diverge_from_itself(name):
    own, picks = one(name, SCORES, 3), every(name, 3)
    assert own.kl(one(name, SCORES + 7, 3), picks).abs().max() < 1e-12
    assert (own.kl(one(name, OTHER, 3), picks).sum(-1) > 0.01).all()


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_samples_have_the_enumerated_frequencies(name, k):
    scores = SCORES[:4]
    expected = log_probs(name, scores, k).exp()
    picks = one(name, scores, k).sample(20000, torch_generator(0, "test"))
    places = {kept: place for place, kept in enumerate(outcomes(name, 4, k))}
    drawn = [places[tuple(kept[mask].tolist())] for kept, mask in zip(picks.index_BGK[0], picks.mask_BGK[0])]
    counts = torch.bincount(torch.tensor(drawn), minlength=len(places))
    if len(places) == 1:
        assert counts.tolist() == [20000]
    else:
        assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def test_samples_are_padded_at_the_right_and_hold_real_tokens_once(name):
    picks = DISTRIBUTIONS[name](MIXED, MIXED_K).sample(200, torch_generator(0, "test"))
    count_BG = picks.mask_BGK.sum(-1)
    assert picks.index_BGK.dtype == torch.int64
    assert picks.index_BGK.shape == picks.mask_BGK.shape == (3, 200, int(count_BG.max()))
    assert torch.equal(picks.mask_BGK, torch.arange(picks.mask_BGK.shape[2]) < count_BG[..., None])
    assert not picks.index_BGK[~picks.mask_BGK].any()
    if name == "bernoulli":
        assert all(len(set(counts.tolist())) > 1 for counts in count_BG)
        assert count_BG.min() == 1
    else:
        assert torch.equal(count_BG, MIXED_K[:, None].expand(3, 200))
    for prompt in range(3):
        for kept, mask in zip(picks.index_BGK[prompt], picks.mask_BGK[prompt]):
            tokens = kept[mask].tolist()
            assert len(set(tokens)) == len(tokens)
            assert (MIXED[prompt, tokens] > INFINITE).all()
            assert name == "plackett_luce" or tokens == sorted(tokens)


def test_a_sample_is_decided_by_its_generator(name):
    distribution = one(name, SCORES, 3)
    first, again, other = (distribution.sample(50, torch_generator(seed, "test")) for seed in (0, 0, 1))
    assert torch.equal(first.index_BGK, again.index_BGK)
    assert torch.equal(first.mask_BGK, again.mask_BGK)
    assert first.index_BGK.shape != other.index_BGK.shape or not torch.equal(first.index_BGK, other.index_BGK)


def everything(name, scores_BN, other_BN, k_B, picks):
    own, other = DISTRIBUTIONS[name](scores_BN, k_B), DISTRIBUTIONS[name](other_BN, k_B)
    return torch.stack([own.log_prob(picks), own.entropy(picks), own.kl(other, picks)])


def test_a_batch_of_budgets_and_paddings_is_its_single_prompts(name):
    scores, other = MIXED.clone().requires_grad_(), MIXED_OTHER.clone().requires_grad_()
    picks = DISTRIBUTIONS[name](MIXED, MIXED_K).sample(6, torch_generator(0, "test"))
    values = everything(name, scores, other, MIXED_K, picks)
    assert not values[:, ~picks.mask_BGK].any()
    slopes = torch.autograd.grad(values.sum(), (scores, other))
    for prompt, k in enumerate(MIXED_K.tolist()):
        real = (MIXED[prompt] > INFINITE).nonzero()[:, 0]
        place = torch.zeros(5, dtype=torch.int64).scatter(0, real, torch.arange(len(real)))
        mask_GK = picks.mask_BGK[prompt]
        most = int(mask_GK.sum(-1).max())
        index_GK = place[picks.index_BGK[prompt]].masked_fill(~mask_GK, 0)
        single = Picks(index_GK[None, :, :most], mask_GK[None, :, :most])
        alone = [rows[prompt, real].detach()[None].requires_grad_() for rows in (scores, other)]
        expected = everything(name, *alone, torch.tensor([k]), single)
        torch.testing.assert_close(values[:, prompt, :, :most], expected[:, 0], rtol=0, atol=1e-10)
        for slope, expected_slope in zip(slopes, torch.autograd.grad(expected.sum(), alone)):
            torch.testing.assert_close(slope[prompt, real], expected_slope[0], rtol=0, atol=1e-10)
            assert not slope[prompt, MIXED[prompt] == INFINITE].any()


def test_rows_are_scored_like_groups(name):
    """A trainer may hand over rows, one selection each, padded to the longest of the whole batch."""
    picks = DISTRIBUTIONS[name](MIXED, MIXED_K).sample(4, torch_generator(0, "test"))
    grouped = everything(name, MIXED, MIXED_OTHER, MIXED_K, picks)
    rows = Picks(
        *(torch.nn.functional.pad(part.flatten(0, 1)[:, None], (0, 3)) for part in (picks.index_BGK, picks.mask_BGK))
    )
    scores, other, k = (part.repeat_interleave(4, 0) for part in (MIXED, MIXED_OTHER, MIXED_K))
    apart = everything(name, scores, other, k, rows)[:, :, 0, :-3]
    torch.testing.assert_close(apart, grouped.flatten(1, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, 5])
def test_extreme_scores_give_finite_values_and_gradients(name, k, dtype):
    scores = EXTREME.to(dtype).requires_grad_()
    other = torch.tensor([-1e4, 1e4, 0.0, 0.0, 1e4], dtype=dtype, requires_grad=True)
    picks = every(name, k)
    values = everything(name, scores[None], other[None], torch.tensor([k]), picks)
    assert values.dtype == dtype
    assert values.isfinite().all()
    for part in values:
        slopes = torch.autograd.grad(part.sum(), (scores, other), retain_graph=True, allow_unused=True)
        assert all(slope.isfinite().all() for slope in slopes if slope is not None)
    drawn = one(name, scores, k).sample(50, torch_generator(0, "test"))
    allowed = {0, 3} if k == 1 or name == "bernoulli" else {0, 2, 3, 4} | ({1} if k == 5 else set())
    assert set(drawn.index_BGK[drawn.mask_BGK].tolist()) == allowed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_or_better(name, dtype):
    scores = SCORES.to(dtype).requires_grad_()
    values = everything(name, scores[None], OTHER.to(dtype)[None], torch.tensor([3]), every(name, 3))
    exact = everything(
        name, SCORES.to(dtype).double()[None], OTHER.to(dtype).double()[None], torch.tensor([3]), every(name, 3)
    )
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(values.sum(), scores)
    assert slope.dtype == dtype
    assert slope.isfinite().all()


def test_a_look_without_gradients_does_not_cut_later_ones(name):
    scores, picks = SCORES.clone().requires_grad_(), every(name, 2)
    own, fresh = one(name, scores, 2), one(name, scores, 2)
    with torch.no_grad():
        own.sample(3, torch_generator(0, "test"))
        own.log_prob(picks), own.entropy(picks)
    for _ in range(2):  # nor does a backward pass free what the next one needs
        for method in ("log_prob", "entropy"):
            slopes = [
                torch.autograd.grad(getattr(each, method)(picks)[:, :2].sum(), scores)[0] for each in (own, fresh)
            ]
            assert torch.equal(*slopes)
            assert slopes[0].abs().max() > 0.01


def test_the_mode_is_the_best_first(name):
    scores = torch.stack([SCORES, OTHER, torch.tensor([1.0, 2.0, 2.0, 2.0, INFINITE], dtype=torch.float64)])
    mode = DISTRIBUTIONS[name](scores, torch.tensor([3, 2, 4])).mode()
    assert mode.tolist() == [[2, 0, 3, 0], [3, 2, 0, 0], [1, 2, 3, 0]]
    if name != "bernoulli":
        best = outcomes(name, 5, 3)[int(log_probs(name, SCORES, 3).argmax())]
        assert set(best) == {2, 0, 3}


@pytest.mark.parametrize(("k", "padded"), [(0, 0), (6, 0), (5, 1)])
def test_impossible_budgets_are_refused(name, k, padded):
    scores = SCORES.clone()
    scores[5 - padded :] = INFINITE
    with pytest.raises(ValueError, match=rf"got budgets \[{k}\] for \[{5 - padded}\] tokens"):
        one(name, scores, k)


# The mistake of a published peer: sets of a fixed size are drawn by Gumbel-top-k, and scored as independent Bernoulli.

N, K = 6, 3
POLICY = torch.tensor([0.3, -1.2, 2.0, 0.0, -0.5, 0.9], dtype=torch.float64)


def reward(kept: tuple[int, ...]) -> float:
    """Of a set: a few tokens matter, one of them only beside another."""
    return 1.0 * (2 in kept) + 2.0 * (0 in kept and 4 in kept) - 0.5 * (5 in kept)


def relative_error(drawn_by: str, scored_as: str) -> float:
    """Of the expected policy gradient, with the mean reward for a baseline, against the gradient of that mean."""
    scores = POLICY.clone().requires_grad_()
    rewards = torch.tensor([reward(kept) for kept in outcomes(drawn_by, N, K)], dtype=torch.float64)
    probability = log_probs(drawn_by, scores, K).exp()
    (true,) = torch.autograd.grad((probability * rewards).sum(), scores)
    weights = probability.detach()
    advantages = rewards - (weights * rewards).sum()
    log_prob = one(scored_as, scores, K).log_prob(every(drawn_by, K, N)).sum(-1)[0]
    (expected,) = torch.autograd.grad((weights * advantages * log_prob).sum(), scores)
    return float((expected - true).norm() / true.norm())


@pytest.mark.parametrize("distribution", ["plackett_luce", "conditional_bernoulli"])
def test_policy_gradients_are_unbiased(distribution):
    assert relative_error(distribution, distribution) < 1e-12


def test_scoring_samples_of_fixed_size_as_independent_bernoulli_is_biased():
    assert relative_error("plackett_luce", "bernoulli") > 0.1
