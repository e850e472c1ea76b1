"""LLaVA's instructions, from small files in their format."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from grip_core.data.decode import decoded
from grip_core.data.encoded import build
from grip_core.data.instruct import read_instruct
from grip_core.errors import UserError
from tests.data.test_public import WORD, png


def instructions(root: Path, items: Any) -> Path:
    root.mkdir(exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    (root / "images" / "1.png").write_bytes(png(7))
    path = root / "instructions.json"
    path.write_text(json.dumps(items))
    return path


def turn(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def test_instructions_become_questions(tmp_path):
    items = [
        {
            "id": "a",
            "image": "1.png",
            "conversations": turn("<image>\nWhat is it?", "A wall.", "Which color?", "Gray."),
        },
        {"id": "b", "conversations": turn("Hello?", "Hello.")},
        *({"id": str(i), "image": f"{i % 30}.jpg", "conversations": turn(f"{i}?\n<image>", "Yes.")} for i in range(60)),
    ]
    path = instructions(tmp_path / "data", items)
    train, validation = (list(read_instruct(path, path.parent / "images", split)) for split in ("train", "validation"))
    assert [(one.asked.question, one.asked.answers) for one in train[:3]] == [
        ("What is it?", ("A wall.",)),
        ("Which color?", ("Gray.",)),
        ("0?", ("Yes.",)),
    ]
    assert len({one.name for one in validation}) == 2  # 5 % of 31
    assert not {one.name for one in train} & {one.name for one in validation}
    assert len(train) + len(validation) == 62
    assert int(decoded(train[0].image())[0, 0, 0]) == 7


def test_what_others_say_is_passed_over_and_questions_without_an_answer_are_unusable(tmp_path):
    said = [{"from": "system", "value": "Be brief."}, *turn("What?", "This."), *turn("And?"), *turn("Which?", "That.")]
    path = instructions(tmp_path / "data", [{"image": name, "conversations": said} for name in ("1.png", "2.png")])
    found = list(read_instruct(path, path.parent / "images", "train"))
    assert [(one.asked.question, one.asked.answers) for one in found] == [
        ("What?", ("This.",)),
        ("And?", ()),
        ("Which?", ("That.",)),
    ]


def test_a_missing_image_is_unusable(tmp_path):
    items = [{"image": name, "conversations": turn("What?", "This.")} for name in ("2.png", "3.png")]
    path = instructions(tmp_path / "data", items)
    with pytest.raises(UserError, match=r"[23]\.png \(there is no such file in data.instruct.images\)"):
        build("instruct", "train", read_instruct(path, path.parent / "images", "train"), 1, 1, 0, tmp_path / "split")


@pytest.mark.parametrize(
    "items", [{"a": 1}, [1, 2], [{"image": "1.png"}] * 2, [{"image": "1.png", "conversations": [{}, {}]}] * 2]
)
def test_what_is_no_list_of_instructions_is_one_line(tmp_path, items):
    path = instructions(tmp_path / "data", items)
    both = (read_instruct(path, path.parent / "images", split) for split in ("train", "validation"))
    with pytest.raises(UserError, match="must be a list of image and conversations") as error:
        list(chain.from_iterable(both))
    assert "\n" not in str(error.value)


def test_one_bad_image_counts_once(tmp_path):
    turns = turn("What?", "This.", "Which?", "That.", "Why?", "So.")
    names = ["2.png", "1.png", "6.png"] * 2  # the last is held out for validation
    path = instructions(tmp_path / "more", [{"image": name, "conversations": turns} for name in names])
    found = read_instruct(path, path.parent / "images", "train", 0)
    split = build("instruct", "train", found, 1, 2, max_bad=1, folder=tmp_path / "split")
    assert len(split.examples) == 2


def test_how_to_answer_holds_for_the_whole_conversation(tmp_path):
    turns = turn(f"<image>\nWho wrote it?{WORD}", "Ann", "What is its title?", "Rough Guide", f"Old?{WORD}", "No")
    path = instructions(tmp_path / "data", [{"image": name, "conversations": turns} for name in ("1.png", "2.png")])
    found = list(read_instruct(path, path.parent / "images", "train"))
    assert [one.asked.question for one in found] == [f"Who wrote it?{WORD}", f"What is its title?{WORD}", f"Old?{WORD}"]
