"""Public benchmarks, from small folders in their schema."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from grip_core.claims.schema import load_claims
from grip_core.config import PublicName
from grip_core.data.decode import decoded
from grip_core.data.encoded import build
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


def test_a_seed_draws_the_questions(tmp_path):
    place = folder_of("textvqa", tmp_path / "data", split="train")
    plain, first, again, other = (
        [one.name for one in read_public("textvqa", "train", place, seed)] for seed in (None, 1, 1, 2)
    )
    assert first == again
    assert sorted(first) == sorted(other) == sorted(plain)
    assert len({tuple(plain), tuple(first), tuple(other)}) == 3


def test_answers_that_the_benchmarks_score_as_right_are_right_in_the_usual_cases(tmp_path):
    people = ["dakota digital"] * 5 + ["dakota"] * 4 + ["digital"]
    row = {"question": "what brand ?", "answers": people, "image": png(1)}
    place = folder_of("textvqa", tmp_path / "data", [row] * 20, split="train")
    (found, *_) = read_public("textvqa", "train", place)
    assert {"dakota digital", "Dakota digital", "Dakota Digital", "dakota", "DAKOTA"} <= set(found.asked.answers)
    assert "digital" not in found.asked.answers
    split = build("textvqa", "train", iter([found]), 1, 1, max_bad=0, folder=tmp_path / "split")
    (example,) = split.examples
    assert example.answer == "dakota digital"
    assert [one.answer for one in split.worded(example)] == list(found.asked.answers)
    assert {one.id for one in split.worded(example)} == {example.id}


@pytest.mark.parametrize(("people", "full"), [(3, False), (4, True)])
def test_an_answer_of_textvqa_is_right_where_its_score_is_full(people, full, tmp_path):
    """The benchmark's rule: each of ten people is left out once, and three of the other nine make a whole point."""
    given = ["sign"] * people + ["stop"] * (10 - people)
    scores = [min(1, (given[:i] + given[i + 1 :]).count("sign") / 3) for i in range(10)]
    assert (sum(scores) == 10) == full
    row = {"question": "what ?", "answers": given, "image": png(1)}
    (found, *_) = read_public("textvqa", "train", folder_of("textvqa", tmp_path / "data", [row] * 20, split="train"))
    assert ("sign" in found.asked.answers) == full


def test_a_formula_is_right_as_it_is_written(tmp_path):
    row = {**ROWS["ocrbench"][0], "question_type": EXACT, "answer": ["X ^ { 2 }"]}
    (found,) = read_public("ocrbench", "test", folder_of("ocrbench", tmp_path / "data", [row]))
    assert found.asked.answers == ("X ^ { 2 }",)
    assert found.asked.question == row["question"], "it is no word or phrase that is asked for"


def test_a_copy_of_the_hubs_repository_has_its_configuration_in_a_folder(tmp_path):
    folder_of("scienceqa", tmp_path / "data" / "ScienceQA-IMG")
    folder_of("scienceqa", tmp_path / "data" / "ScienceQA-FULL", [ROWS["scienceqa"][1]] * 3)
    assert len(list(read_public("scienceqa", "test", str(tmp_path / "data")))) == 1
