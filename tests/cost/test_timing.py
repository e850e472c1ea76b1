"""What is measured, in which order, and what is derived from it; never how long it took."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from grip_core.baselines.registry import create
from grip_core.config import ScorerConfig
from grip_core.cost import timing
from grip_core.cost.dimensions import model_dimensions
from grip_core.cost.selection import Prompt
from grip_core.cost.timing import Batch, Span, Timed, measure, prompt_lengths, with_formulas, with_modelled_decode
from grip_core.evaluation.evaluate import KeepAll
from grip_core.vlm.context import Context, Selection

N = 144


class Witness:
    """Keeps the first k tokens and remembers whom it served."""

    def __init__(self, calls: list[tuple[int, int]]) -> None:
        self.calls = calls

    def select(self, context: Context, k: int) -> Selection:
        assert not context.memo
        context.memo["seen"] = k
        self.calls.append((context.batch_size, k))
        return Selection.of(torch.arange(k).expand(context.batch_size, -1))


def _batches(family) -> dict[int, Batch]:
    return {size: Batch(family.context(range(size)), family.images[:size]) for size in (1, 3)}


def test_measures_all_in_turn(deep):
    calls: list[tuple[int, int]] = []
    methods = [Timed("full", KeepAll()), Timed("first", Witness(calls))]
    inside = Timed("fastv_inside", create("fastv_inside", deep.vlm, 0), inside=True)
    table = measure(deep.vlm, [*methods, inside], [2, 5], _batches(deep), repetitions=3, warmups=1, progress=False)
    assert calls == [(1, 2), (1, 5), (3, 2), (3, 5)] * 4
    parts = table.groupby(["method", "k", "batch"])["part"].agg(lambda found: " ".join(sorted(found))).to_dict()
    whole, without_decode = "decode encode prefill select", "encode prefill select"
    assert parts == {
        **{("full", N, size): whole for size in (1, 3)},
        **{("first", k, size): whole for k in (2, 5) for size in (1, 3)},
        **{("fastv_inside", k, size): without_decode for k in (2, 5) for size in (1, 3)},
    }
    assert (table["low"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["high"]).all()
    measured = table[~((table["method"] == "fastv_inside") & (table["part"] == "select"))]
    assert (measured["low"] > 0).all()


def test_row_is_per_answer_with_quartiles():
    spans = [Span(seconds, peak) for seconds, peak in ((8.0, 1.0), (4.0, 9.0), (12.0, 2.0))]
    row = timing._row(("norm", 7, 4, "prefill"), spans)
    assert (row["low"], row["seconds"], row["high"], row["peak_bytes"]) == (1.5, 2.0, 2.5, 9.0)


def test_prefill_and_decode_make_up_the_answer(llava, monkeypatch):
    """The clock counts its own readings: one before and after each block, one at each call of the language model."""
    readings = iter(range(100))
    monkeypatch.setattr(timing, "now", lambda device: float(next(readings)))
    spans = timing.answer_spans(llava.vlm, llava.context([0]), Timed("full", KeepAll()), N)
    # Read at 0, 1 (selection), 2 (start), 3 and 4 (the model's calls), 5 and 6 (end).
    assert (spans["select"].seconds, spans["prefill"].seconds, spans["decode"].seconds) == (1.0, 1.0, 2.0)


def test_image_processor_is_left_out(llava):
    ready = timing.with_prepared_images(llava.vlm, llava.images)
    expected = llava.vlm.visual_features(llava.images).visual_BND
    torch.testing.assert_close(ready.visual_features([]).visual_BND, expected)


def _row(method: str, k: int, part: str, seconds: float) -> dict:
    return {"method": method, "k": k, "batch": 1, "part": part, "seconds": seconds, "low": seconds, "high": seconds}


def test_modelled_decode():
    """Of 10 tokens fastv_inside keeps 2 from layer 2 of 4: (10 + 10 + 2 + 2) / 4 = 6, half way between 2 and 10."""
    rows = [_row("norm", 2, "decode", 1.0), _row("grid", 2, "decode", 2.0), _row("full", 10, "decode", 4.0)]
    rows += [_row("random", 2, "decode", 9.0), _row("fastv_inside", 2, "prefill", 7.0)]
    table = with_modelled_decode(pd.DataFrame(rows), n_visual=10, layers=4)
    added = table[(table["method"] == "fastv_inside") & (table["part"] == "decode")]
    assert added["seconds"].tolist() == [pytest.approx((2.0 + 4.0) / 2)]
    assert len(table) == len(rows) + 1


def test_formulas_by_part(llava):
    dimensions = model_dimensions(llava.vlm.model.config, ScorerConfig(width=8, layers=1, heads=1))
    rows = [_row(method, 4, part, 1.0) for method in ("norm", "warmup") for part in timing.PARTS]
    table = with_formulas(pd.DataFrame(rows), dimensions, {1: Prompt(text=6, question=2)}, bytes_per_number=2)
    by_part = table.set_index(["method", "part"])
    # Two layers, keys and values, 6 + 4 tokens of width 32 in 2 bytes; decoding adds one token.
    assert by_part.loc[("norm", "prefill"), "kv_bytes"] == 2 * 2 * 10 * 32 * 2
    assert by_part.loc[("norm", "decode"), "kv_bytes"] == 2 * 2 * 1 * 32 * 2
    assert by_part.loc[("norm", "select"), "flops"] == 0 < by_part.loc[("warmup", "select"), "flops"]
    same = by_part["flops"].drop("select", level="part")
    assert (same["norm"] == same["warmup"]).all()


def test_prompt_lengths(llava):
    """<bos> and "answer :" around 4, 8 and 2 words; the image's tokens and padding do not count."""
    prompt = prompt_lengths(llava.context([0, 1, 2]))
    assert prompt == Prompt(text=3 + round(14 / 3), question=round(14 / 3))
