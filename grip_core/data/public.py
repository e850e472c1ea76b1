"""Public benchmarks, read by `datasets` from the Hub or from a folder in the same schema.

Prompts are LLaVA-1.5's (Liu et al. 2024), which ask for a word or for an option's letter. Here an answer is right if
the model begins with it, in the wording that the unpruned model prefers (grip_core/vlm/features.py); for the
benchmarks' own scores there is the model for lmms-eval (grip_core/lmms.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets import Image as ImageFeature
from datasets.exceptions import DatasetsError

from grip_core.config import PublicName
from grip_core.data.encoded import Asked, Found, identity
from grip_core.errors import UserError
from grip_core.seeds import derive

WORD = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCDEFGHIJ"
AGREE = 4
"""People who must have given an answer, of the ten that TextVQA asked, for its score to be full: each of them is left
out once, and of the others three have to agree."""
EXACT = "Handwritten Mathematical Expression Recognition"
"""The kind of OCRBench's questions that ask for a formula, where case matters."""
VALIDATION_SHARE = 5  # percent of a training split, where there is no other for validation


@dataclass(frozen=True)
class Public:
    """Where a benchmark is and how it is read. `splits` names theirs by ours; one that is not there cannot be had."""

    hub: str
    config: str | None
    splits: Mapping[str, str]
    read: Callable[[Mapping[str, Any]], Asked]


def _yes_no(row: Mapping[str, Any]) -> Asked:
    answer = str(row["answer"]).strip().capitalize()
    return Asked(f"{_question(row)}\n{WORD}", _any_case(answer), str(row["category"]))


def _mme(row: Mapping[str, Any]) -> Asked:
    return _yes_no({**row, "question": _question(row).removesuffix("Please answer yes or no.")})


def _scienceqa(row: Mapping[str, Any]) -> Asked:
    context = str(row.get("hint") or "").strip()
    asked = f"Context: {context}\n{_question(row)}" if context else _question(row)
    return Asked(_options(asked, row["choices"]), (LETTERS[int(row["answer"])],), str(row.get("subject", "any")))


def _ai2d(row: Mapping[str, Any]) -> Asked:
    return Asked(_options(_question(row), row["options"]), (LETTERS[int(row["answer"])],), "any")


def _ocrbench(row: Mapping[str, Any]) -> Asked:
    answers, kind = row["answer"], str(row["question_type"])
    listed = [answers] if isinstance(answers, str) else [str(answer) for answer in answers]
    if kind == EXACT:
        return Asked(_question(row), tuple(listed), kind)
    return Asked(f"{_question(row)}\n{WORD}", _any_case(*listed), kind)


def _textvqa(row: Mapping[str, Any]) -> Asked:
    """Answers that enough people gave, or else that most gave."""
    ranked = sorted(Counter(row["answers"]).items(), key=lambda item: (-item[1], item[0]))
    agreed = [answer for answer, people in ranked if people >= AGREE] or [answer for answer, _ in ranked[:1]]
    return Asked(f"{_question(row)}\n{WORD}", _any_case(*agreed), "any")


def _any_case(*answers: str) -> tuple[str, ...]:
    """Each as it is and in the usual cases, which the benchmark's own score does not tell apart."""
    cases = ((one, one.lower(), one[:1].upper() + one[1:], one.title(), one.upper()) for one in answers if one)
    return tuple(dict.fromkeys(form for forms in cases for form in forms))


def _question(row: Mapping[str, Any]) -> str:
    return str(row["question"]).strip()


def _options(question: str, options: Sequence[str]) -> str:
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question}\n{listed}\n{LETTER}"


ONLY_TEST = {"test": "test"}
PUBLIC: Mapping[PublicName, Public] = {
    "pope": Public("lmms-lab/POPE", None, ONLY_TEST, _yes_no),
    "scienceqa": Public(
        "lmms-lab/ScienceQA",
        "ScienceQA-IMG",
        {"train": "train", "validation": "validation", "test": "test"},
        _scienceqa,
    ),
    "ai2d": Public("lmms-lab/ai2d", None, ONLY_TEST, _ai2d),
    "mme": Public("lmms-lab/MME", None, ONLY_TEST, _mme),
    "ocrbench": Public("echo840/OCRBench", None, ONLY_TEST, _ocrbench),
    "textvqa": Public(
        "lmms-lab/textvqa",
        None,
        {
            "train": f"train[:{100 - VALIDATION_SHARE}%]",
            "validation": f"train[{100 - VALIDATION_SHARE}%:]",
            "test": "validation",  # whose answers are public
        },
        _textvqa,
    ),
}


def read_public(name: PublicName, split: str, source: str | None = None, seed: int | None = None) -> Iterator[Found]:
    """The rows of a benchmark's split, from the Hub or from `source`, a folder or another hub id.

    A folder may be a copy of the Hub's repository. With a seed rows come in a random order: many lie sorted by kind,
    and the first ones would be of one kind alone.

    Raises UserError if the benchmark has no such split, it cannot be read, or its columns are others.
    """
    about = PUBLIC[name]
    if split not in about.splits:
        raise UserError(
            f"data.benchmarks: {name} has no {split} split, so that nothing can be trained on it; give data.instruct, "
            "or take a benchmark that has one: "
            + ", ".join(other for other, public in PUBLIC.items() if split in public.splits)
        )
    place = source or about.hub
    try:
        local = Path(place)
        own = local / about.config if about.config and (local / about.config).is_dir() else local
        if local.is_dir():
            rows = load_dataset(str(own), split=about.splits[split])
        else:
            rows = load_dataset(place, about.config, split=about.splits[split])
        rows = rows if seed is None else rows.shuffle(derive(seed, f"{name}/{split}") % 2**32)
        yield from _rows(name, rows.cast_column("image", ImageFeature(decode=False)))
    except KeyError as error:
        raise UserError(f"{name}: {place} must have the benchmark's columns, but lacks {error}; see its card") from None
    except (OSError, ValueError, DatasetsError) as error:
        raise UserError(f"{name}: {place} cannot be read: {' '.join(str(error).split())[:500]}") from None


def _rows(name: PublicName, rows: Dataset) -> Iterator[Found]:
    for row in rows:
        image = row["image"]
        if image is None:  # ScienceQA has questions without
            continue
        data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
        yield Found(partial(bytes, data), identity(data), PUBLIC[name].read(row))
