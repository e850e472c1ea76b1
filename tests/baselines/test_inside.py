"""The methods that prune inside the language model: scores by hand, stages, and the contract over several of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from grip_core.baselines.base import geometric_counts
from grip_core.baselines.dart import turns
from grip_core.baselines.registry import create, get, known
from grip_core.baselines.sparsevlm import raters, text_after_image
from grip_core.vlm.inside import Observed, tokens_per_layer
from tests.baselines.test_contract import kept_sets, padded
from tests.conftest import synthetic_context
from tests.deeper import deeper

INSIDE = [name for name, kind in known().items() if kind.inside]


def observed(query_BHSE, key_BGSE, n: int, hidden_BSD=None) -> Observed:
    """A layer that read one word, n visual tokens and one word more, with no padding."""
    batch, _, total, _ = query_BHSE.shape
    present = torch.ones(batch, n, dtype=torch.bool)
    return Observed(
        query_BHSE=query_BHSE,
        key_BGSE=key_BGSE,
        attention_mask_B1SS=None,
        scaling=1.0,
        hidden_BSD=torch.zeros(batch, total, 1) if hidden_BSD is None else hidden_BSD,
        real_BS=torch.ones(batch, total, dtype=torch.bool),
        place_BN=torch.arange(1, n + 1).expand(batch, -1),
        present_BN=present,
    )


def two_heads() -> Observed:
    """The last of S = 4 tokens asks with 1 in each head; one key head holds logits 0, log 2, log 4, 0 and the other
    0, log 5, 0, 0, so that the weights are 1, 2, 4, 1 of 8 and 1, 5, 1, 1 of 8.
    """
    logits = torch.tensor([[1.0, 2.0, 4.0, 1.0], [1.0, 5.0, 1.0, 1.0]]).log()
    return observed(torch.ones(1, 2, 4, 1), logits[None, :, :, None], n=2)


def test_all_four_are_inside_and_no_other():
    assert INSIDE == ["dart", "fastv_inside", "pyramiddrop", "sparsevlm"]


def test_fastv_is_the_last_tokens_attention():
    scores_BN = create("fastv_inside", None, 0).scores(synthetic_context(torch.zeros(1, 2, 1)), two_heads())
    torch.testing.assert_close(scores_BN, torch.tensor([[7 / 16, 5 / 16]]))


def test_pyramiddrop_is_the_last_tokens_attention_at_every_stage():
    scores_BN = create("pyramiddrop", None, 0).scores(synthetic_context(torch.zeros(1, 2, 1)), two_heads())
    torch.testing.assert_close(scores_BN, torch.tensor([[7 / 16, 5 / 16]]))


def test_raters_resemble_the_image_at_least_as_the_mean():
    """Two tokens, with dots (0, log 2, log 5) and (log 6, 0, 0) to three words: similarities 1/8, 2/8, 5/8 and 6/8,
    1/8, 1/8, of mean 7/16, 3/16, 6/16; their mean is a third. The first word pads.
    """
    visual_BND = torch.eye(2)[None]
    text_BQD = torch.tensor([[[9.0, 9.0], [0.0, math.log(6)], [math.log(2), 0.0], [math.log(5), 0.0]]])
    mask = torch.tensor([[False, True, True, True]])
    everything = torch.ones(1, 2, dtype=torch.bool)
    assert raters(visual_BND, everything, text_BQD, mask).tolist() == [[False, True, False, True]]
    first_alone = torch.tensor([[True, False]])
    assert raters(visual_BND, first_alone, text_BQD, mask).tolist() == [[False, False, False, True]]


def test_there_is_always_a_rater():
    same = torch.full((1, 7, 3), 0.3)
    mask = torch.ones(1, 7, dtype=torch.bool)
    for count in range(1, 8):
        assert raters(torch.ones(1, 5, 3), torch.ones(1, 5, dtype=torch.bool), same[:, :count], mask[:, :count]).any()


def test_the_text_after_the_image():
    context = synthetic_context(
        torch.zeros(2, 3, 1),
        visual_mask_BN=torch.tensor([[True, True, True], [True, True, False]]),
        input_ids_BT=torch.arange(12).view(2, 6),
        visual_slot_BN=torch.tensor([[1, 2, 3], [1, 2, 0]]),
    )
    assert text_after_image(context).tolist() == [[False, True, True], [True, True, True]]


class Embedding:
    """Embeds word 5 as a vector that is the visual tokens' own, and every other word as its opposite."""

    def embed(self, ids_BQ: torch.Tensor) -> torch.Tensor:
        return torch.where(ids_BQ == 5, 1.0, -1.0)[..., None]


def test_sparsevlm_is_the_raters_attention():
    """Of three words after two visual tokens the second and the last rate; each asks with its own scale.

    Logits q.k at the visual tokens are q log 2 and q log 3, elsewhere 0. The second word, q = 1, sees five keys: 2 and
    3 of 2 + 3 + 3. The last, q = 2, sees six: 4 and 9 of 4 + 9 + 4. The first, q = 50, is no rater.
    """
    context = synthetic_context(
        torch.ones(1, 2, 1), input_ids_BT=torch.tensor([[0, 1, 1, 7, 5, 5]]), visual_slot_BN=torch.tensor([[1, 2]])
    )
    query = torch.tensor([0.0, 0.0, 0.0, 50.0, 1.0, 2.0])[None, None, :, None]
    key = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0, 1.0]).log()[None, None, :, None]
    scores_BN = create("sparsevlm", Embedding(), 0).scores(context, observed(query, key, n=2))
    expected = [(2 / 8 + 4 / 17) / 2, (3 / 8 + 9 / 17) / 2]
    torch.testing.assert_close(scores_BN, torch.tensor([expected]))


def directions(degrees: list[float]) -> torch.Tensor:
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=-1)[None]


def test_dart_keeps_pivots_which_then_take_what_is_least_like_them_in_turn():
    """Keys of two heads, of L1 norms 1, 8, 3, 7, 2, 6, 5; the pivots 1, 3, 5 and 6 point to 0, 10, 20 and 30 degrees.

    Of the others, at 40, -70 and 60 degrees, pivot 1 takes that at -70, then pivot 3 that at 60, 50 from it.
    """
    hidden = directions([0, 40, 0, -70, 10, 60, 20, 30, 0])
    # Long vectors do not count for more: it is a cosine.
    hidden = hidden * torch.tensor([1.0, 9.0, 1.0, 0.1, 5.0, 2.0, 1.0, 1.0, 1.0])[None, :, None]
    norms = torch.tensor([99.0, 1.0, 8.0, 3.0, 7.0, 2.0, 6.0, 5.0, 99.0])
    key = torch.stack([norms / 4, -norms * 3 / 4])[None, :, :, None]
    layer = observed(key, key, n=7, hidden_BSD=hidden)
    scores_BN = create("dart", None, 0).scores(synthetic_context(torch.zeros(1, 7, 1)), layer)
    assert scores_BN.argsort(dim=1, descending=True)[0].tolist() == [1, 3, 5, 6, 2, 4, 0]


def test_every_pivot_has_its_turn():
    """Pivots at 0 and 180 degrees: the first takes the token at 90, then the second its farthest, at 0."""
    cosine_BPN = torch.tensor([[[1.0, -1.0, 1.0, 0.0, 0.7], [-1.0, 1.0, -1.0, 0.0, -0.7]]])
    place_BN = turns(cosine_BPN, torch.tensor([[0, 1]]), torch.ones(1, 5, dtype=torch.bool))
    assert place_BN.tolist() == [[0.0, 1.0, 3.0, 2.0, 4.0]]


def test_dart_has_no_pivot_among_what_is_gone():
    key = torch.tensor([0.0, 1.0, 50.0, 2.0, 60.0, 0.5, 3.0, 0.0])[None, None, :, None]
    layer = observed(key, key, n=6, hidden_BSD=directions([0, 0, 180, 10, 180, 20, 90, 0]))
    layer = replace(layer, present_BN=torch.tensor([[True, False, True, False, True, True]]))
    scores_N = create("dart", None, 0).scores(synthetic_context(torch.zeros(1, 6, 1)), layer)[0]
    assert scores_N[[5, 2, 0, 4]].tolist() == [0.0, -1.0, -2.0, -3.0]


def test_layers_of_shallow_and_of_published_depth():
    layers = {name: {depth: get(name)(None, 0).layers(depth) for depth in (2, 5, 32)} for name in INSIDE}
    assert layers["fastv_inside"] == layers["dart"] == {2: [1], 5: [2], 32: [2]}
    assert layers["pyramiddrop"] == {2: [1], 5: [1, 2, 4], 32: [8, 16, 24]}
    assert layers["sparsevlm"] == {2: [1], 5: [1, 2], 32: [2, 6, 15]}


def test_numbers_fall_by_one_ratio():
    counts = geometric_counts(torch.tensor([576, 64, 8, 9]), 8, 3)
    assert torch.stack(counts, dim=1).tolist() == [[138, 33, 8], [32, 16, 8], [8, 8, 8], [9, 8, 8]]
    assert geometric_counts(torch.tensor([576]), 72, 3)[0].item() == 288  # the published half at every stage


@pytest.fixture(scope="module")
def deep(family):
    return deeper(family, 5)


@pytest.mark.parametrize("name", INSIDE)
@torch.no_grad()
def test_the_contract_over_several_stages(deep, name):
    context = deep.context()
    method = create(name, deep.vlm, 0)
    n_B = context.visual_mask_BN.sum(1)
    for k in (1, 6):
        selection = method.select(context, k)
        layers_RL = tokens_per_layer(selection, 5)
        assert [one.layer for one in selection.cuts] == method.layers(5)
        assert torch.equal(layers_RL[:, 0], n_B)
        assert torch.equal(layers_RL[:, -1], n_B.clamp(max=k))
        assert (layers_RL.diff(dim=1) <= 0).all()
        for row, kept in enumerate(kept_sets(selection)):
            assert kept == sorted(set(kept))
            assert kept == kept_sets(method.select(deep.context([row]), k))[0]
        assert kept_sets(method.select(padded(context, 5), k)) == kept_sets(selection)
    assert not method.select(context, context.n_visual).cuts


@torch.no_grad()
def test_fastv_inside_ranks_as_its_score(deep):
    """Before the cut both have read every token: the same set, dropped at another place."""
    context = deep.context()
    inside, before = (create(name, deep.vlm, 0).select(context, 3) for name in ("fastv_inside", "fastv"))
    assert kept_sets(inside) == kept_sets(before)
    assert (deep.vlm.logits(context, inside) - deep.vlm.logits(context, before)).abs().max() > 1e-3
