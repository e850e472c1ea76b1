from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from grip_core.evaluation.evaluate import COLUMNS, REFERENCES, Method, evaluate
from grip_core.evaluation.parts import evaluate_in_parts
from grip_core.evaluation.policy import PolicySelector
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.vlm.context import Selection, top_k

BUDGETS = [2, 5, 144]


class First:
    """Keeps the first k tokens and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def select(self, context, k):
        self.asked += 1
        context.memo["asked"] = context.memo.get("asked", 0) + 1
        return top_k(-torch.arange(context.n_visual).expand(context.batch_size, -1).float(), k)


class Stops(First):
    """Fails on the second benchmark, whose batches hold at most three prompts."""

    def select(self, context, k):
        if context.batch_size == 3:
            raise KeyboardInterrupt
        return super().select(context, k)


def _evaluate(llava, store, *methods, batch_size=4, budgets=BUDGETS) -> pd.DataFrame:
    return evaluate(llava.vlm, store, [*methods, *REFERENCES], budgets, batch_size, progress=False)


def test_a_row_for_every_example_method_and_budget(llava, store):
    rows = _evaluate(llava, store, Method("first", 3, First()))
    assert tuple(rows.columns) == COLUMNS
    counts = rows.groupby(["method", "seed", "k"]).size().to_dict()
    assert counts == {("first", 3, 2): 8, ("first", 3, 5): 8, ("full", 0, 144): 8, ("no_image", 0, 0): 8}
    first = rows[(rows["method"] == "first") & (rows["k"] == 5)]
    assert first["example_id"].tolist() == store.table["id"].tolist()
    assert all(list(kept) == [0, 1, 2, 3, 4] for kept in first["kept"])
    assert all(len(kept) == k for kept, k in zip(rows["kept"], rows["k"], strict=True))


def test_scores_are_those_of_the_vlm(llava, store):
    rows = _evaluate(llava, store, Method("first", 0, First()))
    context = store.context(llava.vlm, np.arange(len(store)))
    selections = {"full": None, "no_image": Selection.none(context), "first": First().select(context, 2)}
    references = {name: llava.vlm.answer_scores(context, item, with_kl=True) for name, item in selections.items()}
    for method, golden in references.items():
        own = rows[(rows["method"] == method) & (rows["k"] != 5)]
        np.testing.assert_allclose(own["log_prob"], golden.log_prob_R.numpy(), rtol=1e-4)
        np.testing.assert_allclose(own["kl"], golden.kl_R.numpy(), atol=1e-5)
        assert own["correct"].tolist() == golden.correct_R.tolist()
    means = rows.groupby(["method", "k"])["log_prob"].mean()
    assert means.nunique() == len(means)  # the selections matter to this model, or the comparison above tells nothing


def test_batches_do_not_matter(llava, store):
    whole, small = (_evaluate(llava, store, Method("first", 0, First()), batch_size=size) for size in (8, 3))
    order = ["method", "k", "example_id"]
    whole, small = (rows.sort_values(order, ignore_index=True) for rows in (whole, small))
    pd.testing.assert_frame_equal(whole, small, rtol=1e-4)


def test_one_context_a_batch_for_all_methods_and_budgets(llava, store, monkeypatch):
    contexts = []
    original = type(store).context
    monkeypatch.setattr(
        type(store), "context", lambda self, vlm, index: contexts.append(original(self, vlm, index)) or contexts[-1]
    )
    _evaluate(llava, store, Method("first", 0, First()), Method("first", 1, First()))
    assert [context.memo["asked"] for context in contexts] == [4, 4]


def test_policy_is_the_mode_of_its_distribution(llava, store):
    scorer = Scorer(ScorerConfiguration(input_width=32, width=8, layers=1, heads=1))
    torch.nn.init.normal_(scorer.score.weight)
    context = store.context(llava.vlm, np.arange(4))
    k_B = torch.full((4,), 6)
    selection = PolicySelector(scorer).select(context, 6)
    mode = PlackettLuce(scorer(context, k_B), k_B).mode()
    assert selection.kept_RK.tolist() == mode.sort(dim=1).values.tolist()
    assert len({tuple(row) for row in selection.kept_RK.tolist()}) > 1


@pytest.fixture
def in_parts(llava, store, tmp_path):
    """Evaluates in parts: returns the rows and how often each selector was asked."""

    def run(*methods: Method, fingerprint="f", budgets=BUDGETS):
        before = [method.selector.asked for method in methods]
        rows = evaluate_in_parts(llava.vlm, store, methods, budgets, 8, tmp_path, fingerprint, progress=False)
        return rows, [method.selector.asked - n for method, n in zip(methods, before, strict=True)]

    return run


def test_parts_give_what_the_whole_gives(llava, store, in_parts):
    method = Method("first", 0, First())
    rows, asked = in_parts(method)
    whole = evaluate(llava.vlm, store, [method], BUDGETS, 8, progress=False)
    order = ["k", "example_id"]
    left, right = (table.sort_values(order, ignore_index=True).drop(columns="kept") for table in (rows, whole))
    pd.testing.assert_frame_equal(left, right, rtol=1e-4, check_dtype=False)
    assert asked == [4]  # two benchmarks, two budgets below N
    again, asked = in_parts(method)
    pd.testing.assert_frame_equal(rows, again)
    assert asked == [0]


def test_only_what_changed_is_run_again(in_parts):
    a, b = Method("a", 0, First(), "v1"), Method("b", 0, First())
    in_parts(a, b)
    assert in_parts(dataclasses.replace(a, version="v2"), b)[1] == [4, 0]
    assert in_parts(a, b, Method("b", 1, First()))[1] == [4, 0, 4]
    assert in_parts(a, b, budgets=[2])[1] == [2, 2]
    assert in_parts(a, b, budgets=[2], fingerprint="g")[1] == [2, 2]


def test_goes_on_after_an_interruption(in_parts):
    with pytest.raises(KeyboardInterrupt):
        in_parts(Method("a", 0, Stops()))
    rows, asked = in_parts(Method("a", 0, First()))
    assert asked == [2]  # the second benchmark alone
    assert len(rows) == 16
