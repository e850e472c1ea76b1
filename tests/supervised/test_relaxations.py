"""What each relaxation's gradient leads to, and what its loss is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from grip_core.data import digit_grids
from grip_core.seeds import torch_generator
from grip_core.supervised import soft_topk
from grip_core.supervised.diffprune import throttle
from grip_core.supervised.relaxation import Batch
from grip_core.supervised.train import RELAXATIONS
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm
from tests.conftest import synthetic_context
from tests.supervised.conftest import make_supervised


@pytest.fixture(scope="module")
def prompt() -> tuple[FrozenVLM, Context]:
    """The embedded model and a question that asks for one digit of an image."""
    vlm = load_vlm("models/embedded", "original")
    split = digit_grids.build("validation", 4, 4, np.random.RandomState(0))
    asked = next(example for example in split.examples if example.question.startswith("which digit"))
    return vlm, vlm.encode([split.image(asked.image_id)], [asked.question], [asked.answer])


def alone(vlm: FrozenVLM, context: Context) -> torch.Tensor:
    """The answer's log-probability from each token alone, (N,)."""
    kept_R1 = torch.arange(context.n_visual)[:, None]
    rows = Selection(kept_R1, torch.ones_like(kept_R1, dtype=torch.bool), torch.zeros(len(kept_R1), dtype=torch.long))
    return vlm.answer_scores(context, rows).log_prob_R


def batch_of(vlm, context: Context, scores_BN: torch.Tensor, step: int, k: int = 1, done: float = 0.0) -> Batch:
    return Batch(vlm, context, scores_BN, torch.tensor([k]), done, torch_generator(0, "test", step))


def trained(name: str, vlm: FrozenVLM, context: Context, scores_BN: torch.Tensor, k: int, rate: float) -> torch.Tensor:
    """Scores of a prompt's tokens after forty steps on the relaxation's loss, from these on."""
    scores_BN = scores_BN.clone().requires_grad_()
    optimizer = torch.optim.Adam([scores_BN], lr=rate)
    for step in range(40):
        optimizer.zero_grad()
        sum(RELAXATIONS[name](make_supervised(), batch_of(vlm, context, scores_BN, step, k)).values()).backward()
        optimizer.step()
    return scores_BN.detach()


@pytest.mark.parametrize(("name", "k"), [("gumbel", 4), ("diffprune", 36)])
def test_free_scores_find_the_tokens_that_answer(prompt, name, k):
    vlm, context = prompt
    alone_N = alone(vlm, context)
    assert (alone_N > -0.1).sum() < 0.1 * len(alone_N)
    scores_BN = trained(name, vlm, context, torch.zeros(1, context.n_visual), k, rate=0.3)
    assert alone_N[scores_BN[0].argmax()] > -0.1


def test_the_soft_mask_leaves_tokens_that_mislead(prompt):
    """It need not find the one that answers: spread over many, a soft mask can answer where no hard one does."""
    vlm, context = prompt
    alone_N = alone(vlm, context)
    misled_BN = 12.0 * (alone_N <= alone_N.sort().values[3])[None]  # the four that speak most against the answer
    config = make_supervised()
    before, after = (
        soft_topk.loss(config, batch_of(vlm, context, scores_BN, 0, 4))["cross_entropy"]
        for scores_BN in (misled_BN, trained("soft_topk", vlm, context, misled_BN, 4, rate=0.3))
    )
    assert after < 0.01 < 1.0 < before


@pytest.mark.parametrize("name", ["gumbel", "soft_topk", "diffprune"])
def test_a_step_in_parts_has_the_gradient_of_the_whole(llava, monkeypatch, name):
    context = llava.context()
    start_BN = torch.linspace(-1, 1, context.n_visual).repeat(3, 1)
    decode, rows = llava.vlm.hidden_states, []
    monkeypatch.setattr(
        llava.vlm, "hidden_states", lambda inputs: rows.append(len(inputs.embeds_RSD)) or decode(inputs)
    )

    def step(at_once: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows.clear()
        monkeypatch.setattr(llava.vlm, "rows_per_forward", at_once)
        scores_BN = start_BN.clone().requires_grad_()
        loss = sum(RELAXATIONS[name](make_supervised(), batch_of(llava.vlm, context, scores_BN, 0, 5)).values())
        loss.backward()
        return loss.detach(), scores_BN.grad

    whole = step(3)
    assert rows == [3]
    parts = step(2)
    assert sorted(rows) == [1, 1, 2, 2], "each part forward, and once more for its backward"
    torch.testing.assert_close(parts, whole)
    assert whole[1].abs().max() > 1e-4


def test_distillation_has_the_teacher_s_order(llava):
    context = llava.context([0])
    scores_BN = trained("distill", llava.vlm, context, torch.zeros(1, context.n_visual), 1, rate=0.1)
    teacher_N = llava.vlm.answer_attention(context).amax(1)[0]
    assert scores_BN[0].topk(3).indices.tolist() == teacher_N.topk(3).indices.tolist()


def test_the_pull_towards_a_hard_mask_grows_and_is_gone_where_the_mask_is_hard(llava):
    context = llava.context([0])
    config = make_supervised(bce_low=0.5, bce_high=3.0)
    scores_BN = torch.linspace(-1, 1, context.n_visual)[None]
    first, last = (
        soft_topk.loss(config, batch_of(llava.vlm, context, scores_BN, 0, 5, done))["weighted_bce"] for done in (0, 1)
    )
    torch.testing.assert_close(last / first, torch.tensor(6.0))
    # Five scores far above, all others far below.
    hard = soft_topk.loss(config, batch_of(llava.vlm, context, 1000.0 * (scores_BN > 0.94), 0, 5, 1.0))
    assert int((scores_BN > 0.94).sum()) == 5
    assert hard["weighted_bce"] < 1e-5 < first


def test_throttling_keeps_the_second_moment_of_every_channel():
    generator = torch.Generator().manual_seed(0)
    tokens_BND = torch.randn(40, 500, 3, generator=generator) * torch.tensor([0.1, 1.0, 10.0]) + 1.0
    context = synthetic_context(tokens_BND)
    for value in (0.0, 0.3, 0.8):
        out_BND = throttle(context, torch.full((40, 500), value), torch_generator(0, "test"))
        ratio_D = out_BND.square().mean((0, 1)) / tokens_BND.square().mean((0, 1))
        torch.testing.assert_close(ratio_D, torch.ones(3), atol=0.05, rtol=0.0)
        correlation = (out_BND * tokens_BND).mean((0, 1)) / tokens_BND.square().mean((0, 1))
        torch.testing.assert_close(correlation, torch.full((3,), value), atol=0.05, rtol=0.0)
    kept_BND = throttle(context, torch.ones(40, 500), torch_generator(0, "test"))
    torch.testing.assert_close(kept_BND, tokens_BND, atol=0.06, rtol=0.0)  # 1e-3 of the largest scale, five sigma
