"""What an answer costs in time, FLOPs and memory."""

from __future__ import annotations

import pandas as pd
import pytest

from grip_core.config import ScorerConfig
from grip_core.cost.answer import answer_flops
from grip_core.cost.dimensions import model_dimensions
from grip_core.cost.layers import visual_per_layer
from grip_core.cost.memory import check_fits, needed_bytes
from grip_core.cost.selection import Prompt
from grip_core.cost.shapes import LLAVA_7B, shape_config
from grip_core.cost.table import answer_seconds, flops_by_budget
from grip_core.errors import UserError


def test_sum_of_parts():
    costs = pd.DataFrame(
        [
            ("full", 10, 1, "select", 0.5),
            ("full", 10, 1, "prefill", 9.5),
            ("norm", 2, 1, "prefill", 2.0),
            ("norm", 2, 1, "select", 1.0),
            ("norm", 4, 1, "select", 1.0),
            ("norm", 4, 8, "select", 7.0),  # another batch
        ],
        columns=["method", "k", "batch", "part", "seconds"],
    )
    assert answer_seconds(costs, 1).to_numpy().tolist() == [["full", 10, 10.0], ["norm", 2, 3.0], ["norm", 4, 1.0]]


def test_flops_by_budget():
    model = model_dimensions(shape_config(LLAVA_7B), ScorerConfig(width=64, layers=2, heads=2))
    prompt = Prompt(text=60, question=40)
    table = flops_by_budget(model, "fastv_inside", prompt, [64, 192])
    assert table["flops"].tolist() == [sum(answer_flops(model, "fastv_inside", prompt, k).values()) for k in (64, 192)]
    before = flops_by_budget(model, "grip", prompt, [64, 192])
    assert (table["flops"] > before["flops"]).all()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("grip", [4] * 8),
        ("full", [100] * 8),
        ("fastv_inside", [100] * 2 + [4] * 6),
        # From 100 to 4 in three equal ratios: 100 * 0.04 ** (1/3) = 34.2, 100 * 0.04 ** (2/3) = 11.7.
        ("pyramiddrop", [100] * 2 + [34] * 2 + [12] * 2 + [4] * 2),
    ],
)
def test_visual_tokens_by_layer(method, expected):
    assert visual_per_layer(method, 4, 100, 8) == expected


def test_memory_is_told_in_one_line():
    decoder = model_dimensions(shape_config(LLAVA_7B), ScorerConfig(width=64, layers=2, heads=2)).decoder
    needed = needed_bytes(7_063_427_072, decoder, 60, 576, 1, 2)
    assert 14.1e9 < needed < 17e9  # 14.1 GB of weights and a third of a GB of cache
    check_fits("llava-1.5-7b", needed, 24 * 10**9, "cuda")
    with pytest.raises(UserError) as caught:
        check_fits("llava-1.5-7b", 32 * 10**9, 23 * 10**9, "cpu")
    assert str(caught.value) == (
        "llava-1.5-7b needs 32 GB of memory, but cpu has 23 GB; lower timing.batch_sizes or take --shape "
        "llava-1.5-eighth, which has the same depth and numbers of tokens"
    )
