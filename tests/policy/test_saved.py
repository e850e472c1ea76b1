"""A scorer on the disk: what is not a whole one is told in one line."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

from grip_core.errors import UserError
from grip_core.policy.saved import read_scorer, save_scorer, trained_with
from grip_core.policy.scorer import Scorer
from tests.test_model import make_scorer

META = {"format": "pt"}  # as transformers asks for


def test_it_says_for_which_vlm_it_is(llava, tmp_path):
    save_scorer(make_scorer(), llava.vlm, tmp_path)
    known = trained_with(read_scorer(tmp_path))
    assert known == llava.vlm.setup
    assert (known["template"], known["positions"]) == (llava.vlm.template, "original")
    assert trained_with(make_scorer()) == {}


def saved(folder) -> Scorer:
    scorer = make_scorer()
    scorer.save_pretrained(folder)
    return scorer


def test_a_file_that_lacks_weights_is_one_line(tmp_path):
    saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "model.safetensors", META)
    with pytest.raises(UserError, match=r"must hold all weights, but lacks score\.weight"):
        read_scorer(tmp_path)


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_a_damaged_file_is_one_line(tmp_path, data):
    saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="no scorer can be read from") as error:
        read_scorer(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_of_other_sizes_are_one_line(tmp_path):
    saved(tmp_path)
    make_scorer(48).save_pretrained(tmp_path / "wide")
    (tmp_path / "wide" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="no scorer can be read from") as error:
        read_scorer(tmp_path)
    assert "\n" not in str(error.value)
