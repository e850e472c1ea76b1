"""Questions with images as they are stored: which are kept, and what is written of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from grip_core.data import encoded
from grip_core.data.encoded import Asked, EncodedSplit, Found, build
from grip_core.data.public import read_public
from grip_core.errors import UserError
from tests.data.test_public import ROWS, folder_of, png


def test_a_split_is_of_the_first_images_and_survives_saving(tmp_path):
    found = read_public("pope", "test", folder_of("pope", tmp_path / "data"))
    split = build("pope", "test", found, 2, 1, max_bad=0, folder=tmp_path / "split")
    for one in (split, EncodedSplit.load(tmp_path / "split")):
        assert [(e.id, e.image_id, e.answer) for e in one.examples] == [
            ("pope-test-0-0", 0, "Yes"),
            ("pope-test-1-0", 1, "No"),
        ]
        assert [int(one.image(i)[0, 0, 0]) for i in range(2)] == [1, 2]
        assert one.image(0).dtype == np.uint8


BROKEN = {"no image": b"nothing", "cut off": png(9)[:60]}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_decoded_is_left_out_up_to_a_limit(tmp_path, data, capsys):
    rows = [{**ROWS["pope"][0], "image": data}, *ROWS["pope"][1:]]
    place = folder_of("pope", tmp_path / "data", rows)
    split = build("pope", "test", read_public("pope", "test", place), 5, 5, max_bad=1, folder=tmp_path / "split")
    assert [one.answer for one in split.examples] == ["No", "No"]
    assert "left out 1 unusable samples" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"data.max_bad=0 samples may be unusable, but these are: .* mend the data"):
        build("pope", "test", read_public("pope", "test", place), 5, 5, max_bad=0, folder=tmp_path / "other")
    assert not any((tmp_path / "other").iterdir())


def test_a_question_without_an_answer_is_unusable(tmp_path):
    nothing = Found(lambda: png(1), "a", Asked("what ?", (), "any"))
    with pytest.raises(UserError, match="it has no answer"):
        build("pope", "test", iter([nothing]), 1, 1, max_bad=0, folder=tmp_path)


def test_a_question_about_an_image_counts_once_and_images_that_are_not_wanted_are_not_read(tmp_path):
    read = []

    def found(name: str, question: str) -> Found:
        return Found(lambda: read.append(name) or png(1), name, Asked(question, ("this",), "any"))

    asked = [("a", "what ?"), ("a", "what ?"), ("a", "which ?"), ("b", "what ?"), ("a", "why ?")]
    split = build("pope", "test", (found(*one) for one in asked), 1, 5, max_bad=0, folder=tmp_path)
    assert [one.question for one in split.examples] == ["what ?", "which ?", "why ?"]
    assert read == ["a"]


def test_a_question_counts_once_in_each_of_popes_categories(tmp_path):
    kinds = ("random", "popular", "adversarial")
    rows = [{**ROWS["pope"][0], "category": kind} for kind in (*kinds, "random")]
    found = read_public("pope", "test", folder_of("pope", tmp_path / "data", rows))
    split = build("pope", "test", found, 1, 5, max_bad=0, folder=tmp_path / "split")
    assert [one.kind for one in split.examples] == [*kinds]
    assert len({one.id for one in split.examples}) == 3


def test_images_are_written_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "TOGETHER", 2)
    found = [Found(partial(png, shade), str(shade), Asked("what ?", ("this",), "any")) for shade in range(5)]
    split = build("pope", "test", iter(found), 5, 1, max_bad=0, folder=tmp_path)
    assert split.images.num_chunks == 3
    assert [int(split.image(i)[0, 0, 0]) for i in range(5)] == list(range(5))
