"""Public benchmarks and LLaVA's instructions, from small folders in their schema."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from grip_core.claims.schema import load_claims
from grip_core.config import PublicName
from grip_core.data import encoded
from grip_core.data.decode import decoded
from grip_core.data.encoded import Asked, EncodedSplit, Found, build
from grip_core.data.instruct import read_instruct
from grip_core.data.public import EXACT, PUBLIC, read_public
from grip_core.errors import UserError

ROOT = Path(__file__).parents[2]


def png(shade: int, size: tuple[int, int] = (20, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


ROWS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "pope": [
        {"question": "Is there a dog in the image?", "answer": "yes", "category": "adversarial", "image": png(1)},
        {"question": "Is there a cat in the image?", "answer": "no", "category": "random", "image": png(1)},
        {"question": "Is there a cup in the image?", "answer": "no", "category": "popular", "image": png(2)},
    ],
    "mme": [
        {
            "question": "Is this photo taken in a hotel? Please answer yes or no.",
            "answer": "Yes",
            "category": "scene",
            "image": png(1),
        }
    ],
    "scienceqa": [
        {
            "question": "Which is larger?",
            "choices": ["the sun", "the moon"],
            "answer": 1,
            "hint": "Look at the picture.",
            "subject": "natural science",
            "image": png(1),
        },
        {"question": "Text only?", "choices": ["a", "b"], "answer": 0, "hint": "", "subject": "any", "image": None},
    ],
    "ai2d": [{"question": "What eats grass?", "options": ["fox", "rabbit", "owl"], "answer": "1", "image": png(1)}],
    "ocrbench": [
        {
            "question": "What is written in the image?",
            "question_type": "Regular Text Recognition",
            "answer": ["CENTRE", "Centre"],
            "image": png(1),
        }
    ],
    "textvqa": [
        {"question": "what brand is it?", "answers": ["nokia"] * 6 + ["sony"] * 4, "image": png(shade)}
        for shade in range(40)
    ],
}
WORD = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
EXPECTED = {
    "pope": ("Is there a dog in the image?" + WORD, "Yes", "adversarial"),
    "mme": ("Is this photo taken in a hotel?" + WORD, "Yes", "scene"),
    "scienceqa": (
        "Context: Look at the picture.\nWhich is larger?\nA. the sun\nB. the moon" + LETTER,
        "B",
        "natural science",
    ),
    "ai2d": ("What eats grass?\nA. fox\nB. rabbit\nC. owl" + LETTER, "B", "any"),
    "ocrbench": ("What is written in the image?" + WORD, "CENTRE", "Regular Text Recognition"),
    "textvqa": ("what brand is it?" + WORD, "nokia", "any"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def folder_of(name: str, root: Path, rows: Sequence[Mapping[str, Any]] | None = None, split: str = "test") -> str:
    """A benchmark as a folder that `datasets` reads."""
    rows = ROWS[name] if rows is None else rows
    given = [{**row, "image": row["image"] and {"bytes": row["image"], "path": None}} for row in rows]
    table = Dataset.from_list(given)
    if "image" in table.column_names:
        table = table.cast_column("image", ImageFeature())
    root.mkdir(parents=True, exist_ok=True)
    table.to_parquet(root / f"{split}-00000-of-00001.parquet")
    return str(root)


@pytest.mark.parametrize("name", PUBLIC)
def test_rows_become_questions(name, tmp_path):
    split = "train" if name == "textvqa" else "test"
    found = list(read_public(name, split, folder_of(name, tmp_path / "data", split=split)))
    first = found[0].asked
    assert (first.question, first.answers[0], first.kind) == EXPECTED[name]
    assert decoded(found[0].image()).shape == (20, 30, 3)
    assert len(found) == {"pope": 3, "textvqa": 38}.get(name, 1)


def test_the_papers_benchmarks_are_all_there():
    paper = next(one for one in load_claims(ROOT / "claims.yaml").settings if one.name == "paper")
    assert set(paper.benchmarks) == set(PUBLIC) == set(get_args(PublicName))


def test_validation_is_the_end_of_a_training_split_that_has_no_other(tmp_path):
    place = folder_of("textvqa", tmp_path / "data", split="train")
    train, validation = (list(read_public("textvqa", split, place)) for split in ("train", "validation"))
    assert [int(decoded(one.image())[0, 0, 0]) for one in [*train, *validation]] == list(range(40))
    assert len(validation) == 2


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


def test_a_split_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"pope has no train split.*data.instruct.*scienceqa, textvqa"):
        list(read_public("pope", "train", folder_of("pope", tmp_path / "data")))


def test_other_columns_are_one_line(tmp_path):
    rows = [{"image": png(1), "text": "what ?"}]
    with pytest.raises(UserError, match="must have the benchmark's columns, but lacks") as error:
        list(read_public("pope", "test", folder_of("pope", tmp_path / "data", rows)))
    assert "\n" not in str(error.value)


def test_no_data_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read") as error:
        list(read_public("pope", "test", str(tmp_path / "missing")))
    assert "\n" not in str(error.value)


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


def test_a_seed_draws_the_questions_and_one_bad_image_counts_once(tmp_path):
    place = folder_of("textvqa", tmp_path / "data", split="train")
    plain, first, again, other = (
        [one.name for one in read_public("textvqa", "train", place, seed)] for seed in (None, 1, 1, 2)
    )
    assert first == again
    assert sorted(first) == sorted(other) == sorted(plain)
    assert len({tuple(plain), tuple(first), tuple(other)}) == 3
    turns = turn("What?", "This.", "Which?", "That.", "Why?", "So.")
    names = ["2.png", "1.png", "6.png"] * 2  # the last is held out for validation
    path = instructions(tmp_path / "more", [{"image": name, "conversations": turns} for name in names])
    found = read_instruct(path, path.parent / "images", "train", 0)
    split = build("instruct", "train", found, 1, 2, max_bad=1, folder=tmp_path / "split")
    assert len(split.examples) == 2


def test_a_question_about_an_image_counts_once_and_images_that_are_not_wanted_are_not_read(tmp_path):
    read = []

    def found(name: str, question: str) -> Found:
        return Found(lambda: read.append(name) or png(1), name, Asked(question, ("this",), "any"))

    asked = [("a", "what ?"), ("a", "what ?"), ("a", "which ?"), ("b", "what ?"), ("a", "why ?")]
    split = build("pope", "test", (found(*one) for one in asked), 1, 5, max_bad=0, folder=tmp_path)
    assert [one.question for one in split.examples] == ["what ?", "which ?", "why ?"]
    assert read == ["a"]


def test_answers_that_the_benchmarks_score_as_right_are_right_in_the_usual_cases(tmp_path):
    people = ["dakota digital"] * 4 + ["dakota"] * 3 + ["digital"] * 2 + ["clock"]
    row = {"question": "what brand ?", "answers": people, "image": png(1)}
    place = folder_of("textvqa", tmp_path / "data", [row] * 20, split="train")
    (found, *_) = read_public("textvqa", "train", place)
    assert {"dakota digital", "Dakota digital", "Dakota Digital", "dakota", "DAKOTA"} <= set(found.asked.answers)
    assert not {"digital", "clock"} & set(found.asked.answers)
    split = build("textvqa", "train", iter([found]), 1, 1, max_bad=0, folder=tmp_path / "split")
    (example,) = split.examples
    assert example.answer == "dakota digital"
    assert [one.answer for one in split.worded(example)] == list(found.asked.answers)
    assert {one.id for one in split.worded(example)} == {example.id}


def test_a_formula_is_right_as_it_is_written(tmp_path):
    row = {**ROWS["ocrbench"][0], "question_type": EXACT, "answer": ["X ^ { 2 }"]}
    (found,) = read_public("ocrbench", "test", folder_of("ocrbench", tmp_path / "data", [row]))
    assert found.asked.answers == ("X ^ { 2 }",)


def test_how_to_answer_holds_for_the_whole_conversation(tmp_path):
    turns = turn(f"<image>\nWho wrote it?{WORD}", "Ann", "What is its title?", "Rough Guide", f"Old?{WORD}", "No")
    path = instructions(tmp_path / "data", [{"image": name, "conversations": turns} for name in ("1.png", "2.png")])
    found = list(read_instruct(path, path.parent / "images", "train"))
    assert [one.asked.question for one in found] == [f"Who wrote it?{WORD}", f"What is its title?{WORD}", f"Old?{WORD}"]


def test_a_copy_of_the_hubs_repository_has_its_configuration_in_a_folder(tmp_path):
    folder_of("scienceqa", tmp_path / "data" / "ScienceQA-IMG")
    folder_of("scienceqa", tmp_path / "data" / "ScienceQA-FULL", [ROWS["scienceqa"][1]] * 3)
    assert len(list(read_public("scienceqa", "test", str(tmp_path / "data")))) == 1


def test_images_are_written_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "TOGETHER", 2)
    found = [Found(partial(png, shade), str(shade), Asked("what ?", ("this",), "any")) for shade in range(5)]
    split = build("pope", "test", iter(found), 5, 1, max_bad=0, folder=tmp_path)
    assert split.images.num_chunks == 3
    assert [int(split.image(i)[0, 0, 0]) for i in range(5)] == list(range(5))
