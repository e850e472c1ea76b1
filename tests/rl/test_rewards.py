"""Rewards by hand."""

from __future__ import annotations

import pytest
import torch

from grip_core.rl.rewards import REWARDS, Scored, budget_overrun, reward
from grip_core.vlm.context import Selection
from grip_core.vlm.frozen import AnswerScores, answer_kl
from tests.rl.conftest import make_reward

SCORED = Scored(
    AnswerScores(torch.tensor([-2.5, 0.0]), torch.tensor([False, True]), torch.tensor([0.5, 0.25])),
    torch.tensor([-1.0, -3.0]),
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("log_prob", [-2.5, 0.0]), ("correct", [0.0, 1.0]), ("fidelity", [-0.5, -0.25]), ("gain", [-1.5, 3.0])],
)
def test_each_reward_is_what_its_table_says(name, wanted):
    assert REWARDS[name](SCORED).tolist() == wanted
    assert reward(make_reward(**{name: 2.0}), SCORED).tolist() == [2 * value for value in wanted]


def test_rewards_are_added_up_with_their_weights_and_then_clipped():
    config = make_reward(log_prob=1.0, correct=4.0, clip_low=-2.0)
    assert reward(config, SCORED).tolist() == [-2.0, 4.0]
    assert reward(config.model_copy(update={"clip_high": 3.0}), SCORED).tolist() == [-2.0, 3.0]


def test_the_budget_is_missed_from_both_sides():
    assert budget_overrun(torch.tensor([3, 6, 4]), torch.tensor([4, 4, 4])).tolist() == [0.25, 0.5, 0.0]


def test_the_kl_of_answers_is_a_mean_over_their_real_tokens():
    full = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]).log()
    pruned = torch.tensor([[[0.5, 0.5], [0.6, 0.4], [0.8, 0.2]]]).log()
    by_hand = (0.0 + 0.9 * torch.log(torch.tensor(0.9 / 0.6)) + 0.1 * torch.log(torch.tensor(0.1 / 0.4))) / 2
    found = answer_kl(full, pruned + 7.0, torch.tensor([[True, True, False]]))  # logits may be shifted
    torch.testing.assert_close(found, by_hand[None])


@torch.no_grad()
def test_keeping_every_token_copies_the_full_model(llava, store):
    context = store.context(llava.vlm, range(3))
    scores = llava.vlm.answer_scores(context, with_kl=True)
    assert scores.kl_R.abs().max() < 1e-5
    one = llava.vlm.answer_scores(context, _first_token(context), with_kl=True)
    assert one.kl_R.min() > 1e-3
    assert llava.vlm.answer_scores(context, _first_token(context)).kl_R is None


def _first_token(context) -> Selection:
    return Selection.of(torch.zeros(context.batch_size, 1, dtype=torch.long))
