"""Small cases worked out by hand or by a definition as plain as possible."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from grip_core.baselines import prumerge
from grip_core.baselines.grid import cut
from grip_core.baselines.holov import quotas
from grip_core.baselines.registry import create
from tests.conftest import synthetic_context


def image_context(height: int, width: int, channels: int = 4):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([rows.flatten(), columns.flatten()], dim=-1)[None]
    generator = torch.Generator().manual_seed(0)
    return synthetic_context(torch.randn(1, height * width, channels, generator=generator), grid_BN2=grid)


def kept(name: str, context, k: int, seed: int = 0) -> list[int]:
    return create(name, None, seed).select(context, k).kept_RK[0].tolist()


def test_random_is_uniform_over_subsets():
    """4,000 prompts that differ in one word: each of the six pairs of four tokens equally often."""
    words = torch.arange(4000)[:, None].expand(-1, 6)
    context = synthetic_context(torch.zeros(4000, 4, 8), input_ids_BT=words)
    pairs = create("random", None, 0).select(context, 2).kept_RK
    counts = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16)
    counts = counts[counts > 0]
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 0.001


def test_random_differs_between_images_seeds_and_places():
    noise = torch.randn(50, 30, 8, generator=torch.Generator().manual_seed(0))
    context = synthetic_context(noise)
    by_image = create("random", None, 0).select(context, 3).kept_RK
    assert len(by_image.unique(dim=0)) > 45  # one question, fifty images
    by_seed = torch.cat([create("random", None, seed).select(context, 3).kept_RK[:1] for seed in range(50)])
    assert len(by_seed.unique(dim=0)) > 45
    swapped = torch.tensor([[1, 2, 3, 4], [1, 3, 2, 4]])
    twice = synthetic_context(noise[:1].expand(2, -1, -1), input_ids_BT=swapped, attention_mask_BT=swapped > 0)
    first, second = create("random", None, 0).select(twice, 3).kept_RK.tolist()
    assert first != second


def test_grid_keeps_the_middle_of_each_quarter():
    assert kept("grid", image_context(6, 6), 4) == [7, 10, 25, 28]  # quarters of 3 x 3
    assert kept("grid", image_context(4, 4), 4) == [0, 2, 8, 10]  # quarters of 2 x 2: the first of four equally near
    assert kept("grid", image_context(3, 9), 3) == [10, 13, 16]
    assert kept("grid", image_context(3, 3), 1) == [4]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1), (3, 5), (5, 3), (6, 6), (2, 11)])
def test_cells_are_k_disjoint_rectangles(height, width):
    context = image_context(height, width)
    for k in range(1, height * width + 1):
        cells = cut(context, k)
        assert cells.mask_BK.all()
        cell_HW = cells.cell_BN[0].view(height, width)
        assert cell_HW.unique().tolist() == list(range(k))
        sides = []
        for cell in range(k):
            rows, columns = (cell_HW == cell).nonzero().unbind(1)
            high, wide = (int(axis.max() - axis.min()) + 1 for axis in (rows, columns))
            assert high * wide == len(rows)
            assert cells.cell_BN[0, cells.centre_BK[0, cell]] == cell
            sides.append((high, wide))
        if height == width == 6 and k in (4, 9):  # near-square where a square is possible
            assert set(sides) == {(6 // math.isqrt(k),) * 2}


def test_pooling_is_average_pooling_where_the_cells_are_equal():
    context = image_context(6, 4)
    selection = create("pooling", None, 0).select(context, 6)
    map_BDHW = context.visual_BND.view(1, 6, 4, 4).permute(0, 3, 1, 2)
    expected = F.avg_pool2d(map_BDHW, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(selection.merged_RKD, expected)
    assert selection.kept_RK.tolist() == [[0, 2, 8, 10, 16, 18]]


def test_pooling_keeps_the_mean_of_unequal_cells():
    context = image_context(3, 3)
    selection = create("pooling", None, 0).select(context, 2)
    visual_HWD = context.visual_BND[0].view(3, 3, -1)
    expected = torch.stack([visual_HWD[:, 0].mean(0), visual_HWD[:, 1:].mean((0, 1))])  # one column, and two
    torch.testing.assert_close(selection.merged_RKD[0], expected)


def test_norm_and_encoder_attention_take_the_largest():
    visual = torch.tensor([[[3.0, 4.0], [0.0, 6.0], [1.0, 0.0], [-4.0, -4.0]]])  # norms 5, 6, 1, 5.7
    context = synthetic_context(visual, encoder_attention_BN=torch.tensor([[0.1, 0.2, 0.4, 0.3]]))
    assert kept("norm", context, 2) == [1, 3]
    assert kept("encoder_attention", context, 2) == [2, 3]


def test_text_similarity_is_the_best_cosine_over_the_question():
    visual = torch.tensor([[[1.0, 1.0], [10.0, 0.0], [0.0, -1.0], [-5.0, 0.1]]])
    question = torch.tensor([[[2.0, 0.0], [-1.0, 1.0], [0.0, -9.0]]])
    # Best cosines: 0.71, 1, 0 (its only match is padding), 0.72.
    mask = torch.tensor([[True, True, False]])
    context = synthetic_context(visual, question_BLD=question, question_mask_BL=mask)
    assert kept("text_similarity", context, 1) == [1]
    assert kept("text_similarity", context, 2) == [1, 3]
    assert kept("text_similarity", context, 3) == [0, 1, 3]


def test_fastv_takes_the_second_layer():
    class Stub:
        def answer_attention(self, context):
            return torch.tensor([[[0.9, 0.1, 0.0, 0.0], [0.1, 0.2, 0.4, 0.3], [0.0, 0.0, 0.0, 1.0]]])

    selection = create("fastv", Stub(), 0).select(synthetic_context(torch.zeros(1, 4, 2)), 2)
    assert selection.kept_RK.tolist() == [[2, 3]]


def test_divprune_spreads_over_a_half_circle():
    """Angles 0, 10, 90, 180 degrees: 180 is loneliest, 0 is farthest from it, then 90, then 10."""
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 90.0, 180.0]))
    lengths = torch.tensor([1.0, 3.0, 2.0, 9.0])  # which the distance ignores
    context = synthetic_context((torch.stack([angles.cos(), angles.sin()]) * lengths).T[None])
    assert [kept("divprune", context, k) for k in (1, 2, 3, 4)] == [[3], [0, 3], [0, 2, 3], [0, 1, 2, 3]]


def test_divprune_is_the_plain_greedy_algorithm():
    context = image_context(3, 4)
    visual = F.normalize(context.visual_BND[0].double(), dim=-1)
    distance = (1 - visual @ visual.T).tolist()
    first = max(range(12), key=lambda i: min(distance[i][j] for j in range(12) if j != i))
    taken = [first]
    while len(taken) < 12:
        rest = [i for i in range(12) if i not in taken]
        taken.append(max(rest, key=lambda i: min(distance[i][j] for j in taken)))
    for k in range(1, 13):
        assert kept("divprune", context, k) == sorted(taken[:k])


def test_duplicates_come_last_in_divprune():
    visual = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    for k, duplicates in ((1, 0), (2, 0), (3, 1)):
        chosen = kept("divprune", synthetic_context(visual), k)
        pairs = itertools.combinations(visual[0, chosen].tolist(), 2)
        assert sum(first == second for first, second in pairs) == duplicates


def test_visionzip_merges_the_rest_into_evenly_placed_targets():
    """k = 10: two contextual tokens and eight dominant ones, 0 to 7. Six are left, so every third is a target: 8, 11.

    By their keys 9 and 12 join 8, and 10 and 13 join 11. A token's value is its index.
    """
    attention = torch.cat([torch.ones(8), torch.zeros(6)])[None]
    key = torch.zeros(1, 14, 2)
    key[0, 8:] = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.1, 1.0], [0.0, 1.0], [5.0, 1.0], [0.0, 2.0]])
    context = synthetic_context(torch.arange(14.0)[None, :, None], encoder_attention_BN=attention, encoder_key_BNE=key)
    selection = create("visionzip", None, 0).select(context, 10)
    assert selection.kept_RK.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 11]]
    assert selection.merged_RKD[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8 + (9 + 12) / 2, 11 + (10 + 13) / 2]


def test_visionzip_shares_the_budget_as_published():
    """54 : 10 of 64 and 108 : 20 of 128; up to k = 3 all are dominant. Tokens of no attention are contextual."""
    for k, contextual in ((1, 0), (3, 0), (4, 1), (9, 1), (10, 2), (64, 10), (128, 20)):
        attention = torch.zeros(1, 200)
        attention[0, 200 - (k - contextual) :] = 1.0
        context = synthetic_context(torch.zeros(1, 200, 2), encoder_attention_BN=attention)
        stride = (200 - k + contextual) // max(contextual, 1)
        targets = [i * stride for i in range(contextual)]
        assert kept("visionzip", context, k) == [*targets, *range(200 - (k - contextual), 200)]


def prumerge_context(last_key: list[float]):
    key = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], last_key]])
    attention = torch.tensor([[0.4, 0.1, 0.3, 0.2]])
    visual = torch.tensor([[[1.0], [10.0], [100.0], [1000.0]]])
    return synthetic_context(visual, encoder_attention_BN=attention, encoder_key_BNE=key)


def test_prumerge_absorbs_the_nearest_dropped_by_their_attention(monkeypatch):
    """0 and 2 are kept. Of 1 and 3, by cosine: 0 is nearest to 1 (.995 and .894), and 2 to 3 (.447 and .0995)."""
    method = create("prumerge", None, 0)
    both = method.select(prumerge_context([2.0, 1.0]), 2)
    assert both.kept_RK.tolist() == [[0, 2]]
    torch.testing.assert_close(both.merged_RKD[0, :, 0], torch.tensor([1.0 + 1 + 200, 100.0 + 1 + 200]))
    monkeypatch.setattr(prumerge, "NEAREST", 1)
    one = method.select(prumerge_context([2.0, 1.0]), 2)
    torch.testing.assert_close(one.merged_RKD[0, :, 0], torch.tensor([1.0 + 1, 100.0 + 200]))
    # Turned round, 3 is behind 1 for both (-.894 and -.447): it is lost, and 1 is absorbed twice.
    lost = method.select(prumerge_context([-2.0, -1.0]), 2)
    torch.testing.assert_close(lost.merged_RKD[0, :, 0], torch.tensor([1.0 + 1, 100.0 + 1]))


def attention_falls(degrees: list[float]):
    """Tokens in descending order of attention, with keys at these angles."""
    angle = torch.deg2rad(torch.tensor(degrees))
    key = torch.stack([angle.cos(), angle.sin()], dim=-1)[None]
    falling = torch.arange(len(degrees), 0, -1.0)[None]
    return synthetic_context(torch.zeros(1, len(degrees), 2), encoder_attention_BN=falling, encoder_key_BNE=key)


def test_vispruner_drops_the_most_similar_of_the_even_places():
    """k = 8: tokens 0 to 3 are important. At even places lie 4, 6, 8 (10, 45, 175 degrees), at odd 5, 7, 9 (0, 90,
    180).

    6 is the farthest from all odd ones; 8 and 4 are dropped. k = 9 has to drop 8 alone. Of k = 3 tokens 0 alone is
    important: all at even places (1, 3, 5, 7, 9) have to go, and then, of 2, 4, 6 and 8, both 2 and 6.
    """
    context = attention_falls([0, 0, 0, 0, 10, 0, 45, 90, 175, 180])
    assert kept("vispruner", context, 8) == [0, 1, 2, 3, 5, 6, 7, 9]
    assert kept("vispruner", context, 9) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert [kept("vispruner", context, k) for k in (3, 2, 1)] == [[0, 4, 8], [0, 8], [0]]


def test_vispruner_is_the_plain_rounds():
    generator = torch.Generator().manual_seed(0)
    key = F.normalize(torch.randn(1, 45, 3, generator=generator), dim=-1)
    attention = torch.rand(1, 45, generator=generator)
    context = synthetic_context(torch.zeros(1, 45, 2), encoder_attention_BN=attention, encoder_key_BNE=key)
    cosine = (key[0] @ key[0].T).tolist()
    by_attention = sorted(range(45), key=lambda i: -attention[0, i])
    for k in (1, 2, 5, 12, 30, 44):
        important = max(1, k // 2)
        rest = by_attention[important:]
        while len(rest) > k - important:
            even, odd = rest[::2], rest[1::2]
            even.sort(key=lambda i: -max((cosine[i][j] for j in odd), default=-2.0))
            rest = even[min(8, len(rest) - (k - important), len(even)) :] + odd
        assert kept("vispruner", context, k) == sorted(by_attention[:important] + rest)


def test_cdpruner_takes_what_is_relevant_and_new():
    """Relevances 1, 1, 0 and .71 of (1, 0), (1, 0), (0, 1) and (1, 1) to the question (1, 0).

    The first is as relevant as its double. Then the gain is r^2 (1 - cos^2): 0, (nearly) 0 and .25. After two tokens of
    the plane nothing is new any more, and the more relevant one comes first.
    """
    visual = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    context = synthetic_context(visual, question_BLD=torch.tensor([[[3.0, 0.0]]]))
    assert [kept("cdpruner", context, k) for k in (1, 2, 3, 4)] == [[0], [0, 3], [0, 1, 3], [0, 1, 2, 3]]


def test_cdpruner_is_greedy_in_the_determinant():
    """Each next token is the one with which the kernel's determinant is largest, as long as it is not 0."""
    generator = torch.Generator().manual_seed(1)
    visual, question = torch.randn(1, 12, 6, generator=generator), torch.randn(1, 3, 6, generator=generator)
    mask = torch.tensor([[True, True, False]])
    context = synthetic_context(visual, question_BLD=question, question_mask_BL=mask)
    unit, word = F.normalize(visual[0].double(), dim=-1), F.normalize(question[0, :2].double(), dim=-1)
    cosine = (unit @ word.T).mean(1)
    relevance = (cosine - cosine.min() + 1e-6) / (cosine.max() - cosine.min())
    kernel = relevance[:, None] * (unit @ unit.T) * relevance
    taken: list[int] = []
    for k in range(1, 7):
        rest = [i for i in range(12) if i not in taken]
        taken.append(max(rest, key=lambda i: float(torch.linalg.det(kernel[[*taken, i]][:, [*taken, i]]))))
        assert kept("cdpruner", context, k) == sorted(taken)
    by_relevance = sorted((i for i in range(12) if i not in taken), key=lambda i: -relevance[i])
    for k in range(7, 13):
        assert kept("cdpruner", context, k) == sorted(taken + by_relevance[: k - 6])


def test_holov_gives_each_crop_its_share():
    """8 x 8 tokens, crops of 2 x 2. The first has the attention .4, .3, .2, .1, the second .05 everywhere, others none.

    Their means are .25 and .05, their shares of k five sixths and one sixth: of 3 tokens 2.5 and .5, so that the first
    crop gets 2 and then what is left over; of 5 it could use 4.2, but has only 4 tokens, and the second takes over. Of
    13 they get 4 and 2, and the seven left over go to the second and to six others.
    """
    attention = torch.zeros(8, 8)
    attention[:2, :2] = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    attention[:2, 2:4] = 0.05
    context = replace(image_context(8, 8), encoder_attention_BN=attention.view(1, 64))
    assert kept("holov", context, 3) == [0, 1, 8]
    assert kept("holov", context, 5) == [0, 1, 2, 8, 9]
    assert kept("holov", context, 13) == [0, 1, 2, 3, 4, 6, 8, 9, 10, 16, 18, 20, 22]


def test_holov_compares_crops_by_their_means():
    """5 x 5 tokens: the first crop is token 0 alone, with .4, the last one 18, 19, 23 and 24, with .2 each.

    By means their shares of 4 tokens are 2.7 and 1.3, by sums they would be 1.3 and 2.7. The first has room for 1; of
    the two left over the last crop gets one and token 1, a crop of its own, the other.
    """
    attention = torch.zeros(1, 25)
    attention[0, 0], attention[0, [18, 19, 23, 24]] = 0.4, 0.2
    context = replace(image_context(5, 5), encoder_attention_BN=attention)
    assert kept("holov", context, 4) == [0, 1, 18, 19]


def test_quotas_round_down_and_hand_on():
    score, size = torch.tensor([[0.2, 0.5, 0.3]]), torch.tensor([[4, 4, 4]])
    assert quotas(score, size, 5).tolist() == [[1, 3, 1]]  # 1, 2.5, 1.5, and one to the best
    assert quotas(score, size, 10).tolist() == [[2, 4, 4]]  # 2, 5 of which 4 fit, 3, and one to the best with room
    assert quotas(score * 0, size, 2).tolist() == [[1, 1, 0]]
    generator = torch.Generator().manual_seed(0)
    score, size = torch.rand(50, 16, generator=generator), torch.randint(0, 9, (50, 16), generator=generator)
    for k in (1, 7, 40, 100):
        quota = quotas(score, size, k)
        assert (quota <= size).all()
        assert torch.equal(quota.sum(1), size.sum(1).clamp(max=k))
