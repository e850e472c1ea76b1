"""Validation: the same numbers as asking one question after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grip_core.policy.scorer import Scorer
from grip_core.vlm.context import top_k

THRESHOLD = -3.5


@pytest.fixture
def _half_right(llava, monkeypatch):
    """The random model gets nothing right; here an answer counts as right if it is among the likelier ones."""
    answer_scores = llava.vlm.answer_scores

    def scores(context, kept):
        found = answer_scores(context, kept)
        return replace(found, correct_R=found.log_prob_R > THRESHOLD)

    monkeypatch.setattr(llava.vlm, "answer_scores", scores)


@torch.no_grad()
@pytest.mark.usefixtures("_half_right")
def test_accuracies_are_those_of_single_questions(llava, store, validation, warmup_scorer: Scorer):
    row = validation(warmup_scorer)
    names = store.table["benchmark"].to_numpy()
    for k in (1, 4):
        correct = []
        for i in range(len(store)):
            context = store.context(llava.vlm, np.array([i]))
            kept = top_k(warmup_scorer(context, torch.tensor([k])), k)
            correct.append(float(llava.vlm.answer_scores(context, kept).correct_R))
        assert row[f"accuracy@{k}"] == pytest.approx(np.mean(correct))
        for name in set(names):
            assert row[f"accuracy@{k}/{name}"] == pytest.approx(np.mean(np.array(correct)[names == name]))
    assert row["accuracy"] == pytest.approx((row["accuracy@1"] + row["accuracy@4"]) / 2)
    assert 0 < row["accuracy"] < 1  # or the comparison would say nothing
