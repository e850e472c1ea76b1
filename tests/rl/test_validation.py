"""Validation: the same numbers as asking one question after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from grip_core.policy.distributions import DISTRIBUTIONS
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer
from grip_core.rl import validation as module
from grip_core.rl.validation import Validation
from grip_core.seeds import torch_generator
from grip_core.vlm.context import Selection, top_k

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


@torch.no_grad()
@pytest.mark.usefixtures("_half_right")
@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_sampled_accuracies_are_those_of_one_selection_a_question(llava, store, warmup_scorer, monkeypatch, name):
    monkeypatch.setattr(module, "BATCH", 4)
    store = store.subset(range(6))
    validation = Validation(llava.vlm, store, [2, 5])
    row = validation(warmup_scorer, DISTRIBUTIONS[name], torch_generator(0, "test"))
    generator = torch_generator(0, "test")
    for k in (2, 5):
        correct, log_prob = [], []
        for batch in np.array_split(np.arange(6), 2):
            k_B = torch.full((len(batch),), k)
            scores_BN = warmup_scorer(store.context(llava.vlm, batch), k_B)
            drawn = DISTRIBUTIONS[name](scores_BN, k_B).sample(1, generator)
            for i, index_K, mask_K in zip(batch, drawn.index_BGK[:, 0], drawn.mask_BGK[:, 0], strict=True):
                one = llava.vlm.answer_scores(
                    store.context(llava.vlm, np.array([i])), Selection.of(index_K[mask_K][None])
                )
                correct.append(float(one.correct_R))
                log_prob.append(float(one.log_prob_R))
        assert row[f"sampled_accuracy@{k}"] == pytest.approx(np.mean(correct))
        assert row[f"sampled_log_prob@{k}"] == pytest.approx(np.mean(log_prob), abs=1e-5)
    assert row["sampled_accuracy"] == pytest.approx((row["sampled_accuracy@2"] + row["sampled_accuracy@5"]) / 2)
    assert row["gap"] == row["accuracy"] - row["sampled_accuracy"]
    assert 0 < row["sampled_accuracy"] < 1  # or the comparison would say nothing


@pytest.mark.usefixtures("_half_right")
def test_sampling_changes_nothing_of_the_mode(validation, warmup_scorer):
    without = validation(warmup_scorer)
    row = validation(warmup_scorer, PlackettLuce, torch_generator(0, "test"))
    added = {"sampled_accuracy", "sampled_accuracy@1", "sampled_accuracy@4", "sampled_log_prob@1", "sampled_log_prob@4"}
    assert row.keys() - without.keys() == added | {"gap"}
    assert without.items() <= row.items()


@pytest.mark.usefixtures("_half_right")
def test_a_policy_sure_of_its_mode_has_no_gap(validation, warmup_scorer):
    warmup_scorer.score.weight.data *= 1e6
    row = validation(warmup_scorer, PlackettLuce, torch_generator(0, "test"))
    assert row["gap"] == 0.0
    assert row["sampled_log_prob@4"] == pytest.approx(row["log_prob@4"], abs=1e-6)


def test_a_distribution_needs_a_generator(validation, warmup_scorer):
    with pytest.raises(ValueError, match="must be given together"):
        validation(warmup_scorer, PlackettLuce)
