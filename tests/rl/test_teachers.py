from __future__ import annotations

import pytest
import torch

from grip_core.rl.teachers import BLOCK, TEACHERS, sharpened
from grip_core.vlm.context import Selection


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers_give_distributions_over_real_tokens(name, family):
    context = family.context()
    target_BN = TEACHERS[name](family.vlm, context)
    assert target_BN.shape == context.visual_mask_BN.shape
    assert (target_BN >= 0).all()
    assert (target_BN[~context.visual_mask_BN] == 0).all()
    # Zero where dropping any group helps, which random weights can do.
    total_B = target_BN.sum(1)
    assert (torch.isclose(total_B, torch.ones(3), atol=1e-4) | (total_B == 0)).all()
    assert total_B.max() > 0
    assert target_BN.std() > 0


def test_the_attention_teacher_takes_the_largest_over_layers(family):
    context = family.context()
    rows_BLN = family.vlm.answer_attention(context)
    largest_BN = torch.stack(list(rows_BLN.unbind(1))).max(0).values
    wanted_BN = largest_BN / largest_BN.sum(1, keepdim=True)
    torch.testing.assert_close(TEACHERS["attention"](family.vlm, context), wanted_BN)


def test_leave_group_out_is_the_fall_when_a_block_is_dropped(llava, store):
    context = store.context(llava.vlm, [0])
    full = llava.vlm.answer_scores(context).log_prob_R[0]
    falls = torch.zeros(context.n_visual)
    for top in range(0, 12, BLOCK):
        for left in range(0, 12, BLOCK):
            block = [12 * row + column for row in range(top, top + BLOCK) for column in range(left, left + BLOCK)]
            kept = [i for i in range(context.n_visual) if i not in block]
            pruned = llava.vlm.answer_scores(context, Selection.of(torch.tensor([kept])))
            falls[block] = (full - pruned.log_prob_R[0]).clamp(min=0.0)
    assert (falls > 0).any()
    target = TEACHERS["leave_group_out"](llava.vlm, context)[0]
    torch.testing.assert_close(target, falls / falls.sum(), rtol=1e-3, atol=1e-5)


def test_sharpening_keeps_a_flat_target_a_distribution():
    flat_BN = torch.full((1, 144), 1 / 144)
    assert torch.allclose(sharpened(flat_BN, 8.0), flat_BN)


def test_the_gradient_teacher_is_the_finite_difference_of_scaling_a_token(llava, store):
    context = store.context(llava.vlm, [0])
    target_N = TEACHERS["gradient"](llava.vlm, context)[0]
    first, second = target_N.argmax().item(), target_N.argsort()[-5].item()

    def slope(token: int, step: float = 1e-2) -> float:
        log_probs = []
        for scale in (1 + step, 1 - step):
            changed = context.rows(torch.arange(1))
            changed.visual_BND = context.visual_BND.clone()
            changed.visual_BND[0, token] *= scale
            log_probs.append(llava.vlm.answer_scores(changed).log_prob_R[0].item())
        return abs(log_probs[0] - log_probs[1]) / (2 * step)

    assert slope(first) / slope(second) == pytest.approx((target_N[first] / target_N[second]).item(), rel=0.05)


def test_sharpening_squares_and_normalises():
    target_BN = torch.tensor([[0.1, 0.3, 0.6, 0.0]])
    assert torch.allclose(sharpened(target_BN, 2.0), torch.tensor([[0.01, 0.09, 0.36, 0.0]]) / 0.46)
