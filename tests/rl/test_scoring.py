from __future__ import annotations

import torch

from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.rl.scoring import score_selections
from grip_core.seeds import torch_generator
from grip_core.vlm.context import Selection


def test_batched_scores_equal_scores_one_at_a_time(llava, store):
    context = store.context(llava.vlm, range(4))
    k_B = torch.tensor([7, 1, 12, 3])
    distribution = PlackettLuce(torch.zeros(4, store.n_visual), k_B)
    picks = distribution.sample(3, torch_generator(0, "test"))
    batched = score_selections(llava.vlm, context, picks, with_kl=True, rows_per_forward=5)  # which cuts groups
    for b in range(4):
        for g in range(3):
            one = Selection.of(picks.index_BGK[b, g, : k_B[b]][None])
            alone = llava.vlm.answer_scores(context, Selection(one.kept_RK, one.mask_RK, torch.tensor([b])), True)
            assert torch.allclose(batched.log_prob_R[b * 3 + g], alone.log_prob_R[0], atol=1e-5)
            assert torch.allclose(batched.kl_R[b * 3 + g], alone.kl_R[0], atol=1e-5)
            assert batched.correct_R[b * 3 + g] == alone.correct_R[0]
