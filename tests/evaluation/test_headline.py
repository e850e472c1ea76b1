from __future__ import annotations

import json

import pytest

from grip_core.evaluation.headline import compared_methods, headline, headline_differences
from grip_core.evaluation.words import listed, points, setting_sentence
from tests.answers import make_rows


def _headline(**accuracy):
    rows = make_rows(accuracy)
    return headline(rows, headline_differences(rows, 0.25, 0.95), 0.25, 0.95)


def test_numbers():
    numbers = _headline(grip=0.8, warmup=0.6, random=0.3)
    assert numbers["budgets"] == "2, 4"  # at most a quarter of 16 tokens
    assert (numbers["tokens"], numbers["benchmarks"], numbers["questions"]) == (16, 2, 80)
    golden = {"grip": 0.8, "warmup": 0.6, "random": 0.3, "full": 1.0, "no_image": 0.25}
    assert numbers["accuracy"] == pytest.approx(golden)
    assert numbers["grip_seeds"] == pytest.approx({"0": 0.8, "1": 0.8})
    assert numbers["difference"]["random"]["effect"] == pytest.approx(0.5)
    assert json.loads(json.dumps(numbers)) == numbers


def test_flipped_data_flip_the_words():
    said = _headline(grip=0.8, warmup=0.5, random=0.3, norm=0.95, grid=0.8)["verdict"]
    assert said.startswith("Training by GRPO helps: GRIP beats the warm-up")
    assert "GRIP beats Random (+50.0 points" in said
    assert "GRIP loses to Token norm (\N{MINUS SIGN}15.0 points" in said
    assert "GRIP cannot be told from Grid (+0.0 points" in said
    flipped = _headline(grip=0.5, warmup=0.8, random=0.95, norm=0.3, grid=0.8)["verdict"]
    assert flipped.startswith("Training by GRPO hurts: GRIP loses to the warm-up")
    assert "GRIP beats Token norm (+20.0 points" in flipped
    assert "GRIP loses to Grid" in flipped
    assert "cannot be told" not in flipped
    assert _headline(grip=0.5, warmup=0.5)["verdict"].startswith("Training by GRPO shows no clear effect")


def test_the_warm_up_is_compared_first_and_references_never():
    rows = make_rows({"grip": 0.8, "norm": 0.1, "warmup": 0.6, "grid": 0.3})
    assert compared_methods(rows) == ["warmup", "grid", "norm"]


def test_sentences():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert points({"effect": 0.1234, "low": -0.001, "high": 0.2}) == "(+12.3 points, [\N{MINUS SIGN}0.1, +20.0])"
    setting = setting_sentence(_headline(grip=0.8, warmup=0.6))
    assert "GRIP answers 80.0% of the questions correctly" in setting
    assert "answers 100.0%, without the image 25.0%" in setting
