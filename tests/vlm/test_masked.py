"""Soft weights in the attention: at 0 and 1 a real removal, between them a gradient that finite differences confirm."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from grip_core.vlm.context import Selection
from grip_core.vlm.masked import masked_logits


def random_weights(context, low: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    weight_BN = torch.rand(context.visual_mask_BN.shape, generator=generator) * (1 - low) + low
    return weight_BN * context.visual_mask_BN


def norm_in_full(self, x: torch.Tensor) -> torch.Tensor:
    """Transformers' own computes in float32, which is too coarse for finite differences."""
    return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_weights_of_zero_and_one_are_a_real_removal(family, share):
    context = family.context()
    kept_BN = (random_weights(context) > 1 - share) & context.visual_mask_BN
    index_BN = torch.arange(context.n_visual).expand_as(kept_BN)
    removed_BAV = family.vlm.logits(context, Selection.of(index_BN, kept_BN))
    weighted_BAV = masked_logits(family.vlm, context, kept_BN.float())
    real_BA = context.answer_mask_BA
    torch.testing.assert_close(weighted_BAV[real_BA], removed_BAV[real_BA], atol=1e-5, rtol=1e-5)


def test_no_token_let_in_is_the_answer_without_the_image(family):
    context = family.context()
    blind_BAV = family.vlm.logits(context, Selection.none(context))
    weighted_BAV = masked_logits(family.vlm, context, torch.zeros_like(context.visual_mask_BN, dtype=torch.float32))
    real_BA = context.answer_mask_BA
    torch.testing.assert_close(weighted_BAV[real_BA], blind_BAV[real_BA], atol=1e-5, rtol=1e-5)


def test_the_model_s_own_attention_is_back_afterwards(family):
    context = family.context()
    before = family.vlm.logits(context)
    masked_logits(family.vlm, context, random_weights(context))
    assert family.vlm.logits(context).equal(before)


@pytest.mark.parametrize("at", [0.0, 0.6, 1.0])
def test_gradients_are_those_of_finite_differences(llava, at, monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm_in_full)
    vlm = copy.deepcopy(llava.vlm)
    vlm.model.double()
    context = vlm.context(llava.vlm.visual_features([llava.images[0]]), ["what color ?"], ["red"])
    context.visual_BND = context.visual_BND.double()
    token, step = 7, 1e-6

    def log_prob(weight_BN: torch.Tensor) -> torch.Tensor:
        return masked_logits(vlm, context, weight_BN)[0, 0].log_softmax(-1)[context.answer_ids_BA[0, 0]]

    weight_BN = random_weights(context, low=0.2).double()
    weight_BN[0, token] = at
    (slope_BN,) = torch.autograd.grad(log_prob(weight_BN.requires_grad_()), weight_BN)
    shift_BN = torch.zeros_like(weight_BN)
    shift_BN[0, token] = step
    with torch.no_grad():
        difference = (log_prob(weight_BN + shift_BN) - log_prob(weight_BN - shift_BN)) / (2 * step)
    assert abs(difference) > 1e-6
    torch.testing.assert_close(slope_BN[0, token], difference, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("positions", ["compact"], indirect=True)
def test_positions_that_depend_on_what_is_kept_are_refused(family, positions):
    with pytest.raises(ValueError, match="original positions, but got compact"):
        masked_logits(family.vlm, family.context(), torch.ones(3, 1))
