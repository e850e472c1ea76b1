"""The scorer's contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaConfig, LlavaForConditionalGeneration

from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.vlm.context import Context
from tests.conftest import synthetic_context


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """With a score head that is not zero, as it is before training."""
    model = Scorer(ScorerConfiguration(input_width=16, width=16, layers=2, heads=4))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim > 1 else 1.0)
    return model.eval()


def random_context(batch: int, n: int, length: int) -> Context:
    generator = torch.Generator().manual_seed(batch + 10 * n + 100 * length)
    return synthetic_context(
        torch.randn(batch, n, 16, generator=generator),
        question_BLD=torch.randn(batch, length, 16, generator=generator),
        question_mask_BL=torch.ones(batch, length, dtype=torch.bool),
    )


@pytest.mark.parametrize(("n", "length"), [(1, 1), (5, 1), (7, 4), (30, 9)])
def test_any_number_of_tokens_words_and_budgets(scorer, n, length):
    context = random_context(2, n, length)
    for k in (1, n):
        scores = scorer(context, torch.tensor([k, 1]))
        assert scores.shape == (2, n)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()


@torch.no_grad()
def test_padding_is_invisible_and_scores_minus_infinity(scorer):
    """Prompts of different sizes together, padding full of rubbish, against each alone."""
    singles = [random_context(1, 6, 2), random_context(1, 4, 5)]
    budgets = torch.tensor([2, 3])

    def join(name: str, value: float) -> torch.Tensor:
        parts = [getattr(single, name) for single in singles]
        size = max(part.shape[1] for part in parts)
        tail = [0, 0] * (parts[0].ndim - 2)
        return torch.cat([F.pad(part, [*tail, 0, size - part.shape[1]], value=value) for part in parts])

    visual = join("visual_BND", 77.0)
    batch = synthetic_context(
        visual,
        visual_mask_BN=join("visual_mask_BN", 0),
        grid_BN2=join("grid_BN2", 77),
        question_BLD=join("question_BLD", 77.0),
        question_mask_BL=join("question_mask_BL", 0),
    )
    scores = scorer(batch, budgets)
    for row, single in enumerate(singles):
        torch.testing.assert_close(scores[[row], : single.n_visual], scorer(single, budgets[[row]]))
    assert (scores[1, 4:] == float("-inf")).all()


@torch.no_grad()
def test_the_question_the_budget_the_image_and_the_places_matter(scorer):
    context = random_context(1, 8, 3)
    plain = scorer(context, torch.tensor([2]))
    more = scorer(context, torch.tensor([6]))
    asked = scorer(replace(context, question_BLD=context.question_BLD.roll(1, -1)), torch.tensor([2]))
    seen = scorer(replace(context, visual_BND=context.visual_BND.roll(1, -1)), torch.tensor([2]))
    moved = scorer(replace(context, grid_BN2=context.grid_BN2.roll(1, 1)), torch.tensor([2]))
    for other in (more, asked, seen, moved):
        differences = other - plain
        assert differences.std() > 1e-3  # not the same amount for every token, which would change no selection


@torch.no_grad()
def test_the_order_of_the_tokens_is_irrelevant(scorer):
    context = random_context(1, 8, 3)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    permuted = replace(context, visual_BND=context.visual_BND[:, order], grid_BN2=context.grid_BN2[:, order])
    k = torch.tensor([3])
    torch.testing.assert_close(scorer(permuted, k), scorer(context, k)[:, order])


def test_training_mode_computes_the_same():
    model = Scorer(ScorerConfiguration(input_width=16, width=16))
    assert not [module for module in model.modules() if isinstance(module, nn.Dropout)]
    nn.init.normal_(model.score.weight)
    context, k = random_context(2, 5, 2), torch.tensor([1, 3])
    assert torch.equal(model.train()(context, k), model.eval()(context, k))


def test_an_untrained_scorer_prefers_nothing():
    model = Scorer(ScorerConfiguration(input_width=16, width=16))
    assert not model(random_context(2, 5, 2), torch.tensor([1, 3])).any()


def test_the_gradient_reaches_every_parameter(scorer):
    context = random_context(2, 5, 3)
    weights = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    scorer.zero_grad()
    (scorer(context, torch.tensor([1, 3])) * weights).sum().backward()
    without = [name for name, parameter in scorer.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not without


def test_it_survives_saving(scorer, tmp_path):
    scorer.save_pretrained(tmp_path)
    loaded = Scorer.from_pretrained(tmp_path).eval()
    context, k = random_context(2, 5, 2), torch.tensor([1, 3])
    torch.testing.assert_close(loaded(context, k), scorer(context, k))


@pytest.mark.parametrize("width", [64, 512])
def test_it_is_small_beside_a_7b_model(width):
    """At most a twentieth of LLaVA-1.5-7B, which transformers' default configuration describes."""
    with torch.device("meta"):
        vlm = LlavaForConditionalGeneration(LlavaConfig())
        model = Scorer(ScorerConfiguration(input_width=4096, width=width, layers=4, heads=8))
    assert 6.5e9 < vlm.num_parameters() < 7.5e9
    assert model.num_parameters() <= 0.05 * vlm.num_parameters()
