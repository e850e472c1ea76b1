"""Small cases worked out by hand or by a definition as plain as possible."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare
from torch.nn import functional as F

from grip_core.baselines.grid import cut
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
