"""Small builds of every benchmark, each made once a session."""

from __future__ import annotations

from functools import cache

import pytest

from grip_core.data.examples import Split
from grip_core.data.registry import BENCHMARKS
from grip_core.seeds import numpy_random

IMAGES, QUESTIONS = 40, 8


def build_afresh(name: str, split: str, seed: int) -> Split:
    """A small split, built now."""
    return BENCHMARKS[name].build(split, IMAGES, QUESTIONS, numpy_random(seed, f"{name}/{split}"))


@pytest.fixture(scope="session")
def build():
    """`build(name, split)`: a small split of seed 0."""
    return cache(lambda name, split: build_afresh(name, split, 0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
