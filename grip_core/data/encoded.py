"""Questions that are read, not built: their images stay encoded, as they were found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import feather
from tqdm import tqdm

from grip_core.data.decode import BadImage, decoded
from grip_core.data.examples import Example
from grip_core.errors import UserError
from grip_core.files import atomic_file, write_text

EXAMPLES, ANSWERS, IMAGES = "examples.jsonl", "answers.json", "images.arrow"
SCHEMA = pa.schema({"image": pa.large_binary()})
TOGETHER = 256
"""Images that are written at once."""


@dataclass(frozen=True)
class Asked:
    """What a row asks."""

    question: str
    answers: tuple[str, ...]
    """Those that are right, the benchmark's own first."""
    kind: str


@dataclass(frozen=True)
class Found:
    """A question with its image as it was stored."""

    image: Callable[[], bytes]
    """Reads it: of most questions in a long list the image is not wanted."""
    name: str
    """What tells an image from another."""
    asked: Asked


@dataclass
class EncodedSplit:
    """Images, encoded as they were found, and the questions about them; grip_core/data/examples.py has `Split`."""

    examples: Sequence[Example]
    answers: Mapping[str, Sequence[str]]
    """By an example's id, those that are right, where they are several."""
    images: pa.ChunkedArray
    """Memory-mapped."""

    def image(self, image_id: int) -> np.ndarray:
        """Pixels of one image, uint8 (height, width, 3)."""
        return decoded(self.images[image_id].as_py())

    def worded(self, example: Example) -> list[Example]:
        """The example with each of the answers that are right."""
        return [replace(example, answer=answer) for answer in self.answers.get(example.id, [example.answer])]

    @classmethod
    def load(cls, folder: Path) -> EncodedSplit:
        """Read what `build` wrote. Raises FileNotFoundError when `folder` is not a stored split."""
        examples = [Example(**json.loads(line)) for line in (folder / EXAMPLES).read_text().splitlines()]
        answers = json.loads((folder / ANSWERS).read_text())
        return cls(examples, answers, feather.read_table(folder / IMAGES, memory_map=True)["image"])


def build(
    name: str, split: str, found: Iterator[Found], images: int, questions_per_image: int, max_bad: int, folder: Path
) -> EncodedSplit:
    """The first `images` images with the first `questions_per_image` questions of each, in the order of `found`; one
    that is asked of an image again counts once a kind, for POPE asks the same of an image in each of its categories.

    They are written to `folder`, each file whole or not at all, the images as they come, for the memory might not hold
    them all. What cannot be decoded, and what has no answer, is left out. Raises UserError if that is more than
    `max_bad`, or nothing is left.
    """
    progress = tqdm(total=images, desc=f"{name} {split}", unit="image", leave=False)
    with atomic_file(folder / IMAGES) as file, pa.ipc.new_file(file, SCHEMA) as writer, progress:
        asked = _asked(name, split, found, images, questions_per_image, max_bad, _Images(writer, progress))
    numbered = [
        (f"{name}-{split}-{place}-{number}", place, item)
        for place, of_image in enumerate(asked)
        for number, item in enumerate(of_image)
    ]
    examples = [
        Example(
            id=own,
            image_id=place,
            question=item.question,
            answer=item.answers[0],
            kind=item.kind,
            benchmark=name,
            split=split,
        )
        for own, place, item in numbered
    ]
    write_text(folder / ANSWERS, json.dumps({own: item.answers for own, _, item in numbered if len(item.answers) > 1}))
    lines = (json.dumps(asdict(example), separators=(",", ":")) + "\n" for example in examples)
    write_text(folder / EXAMPLES, "".join(lines))
    return EncodedSplit.load(folder)


class _Images:
    """Writes images one after another, some at once."""

    def __init__(self, writer: pa.RecordBatchWriter, progress: tqdm) -> None:
        self.writer, self.progress = writer, progress
        self.waiting: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.waiting.append(data)
        self.progress.update()
        if len(self.waiting) == TOGETHER:
            self.flush()

    def flush(self) -> None:
        self.writer.write_batch(pa.record_batch([pa.array(self.waiting, pa.large_binary())], schema=SCHEMA))
        self.waiting = []


def _asked(
    name: str,
    split: str,
    found: Iterator[Found],
    images: int,
    questions_per_image: int,
    max_bad: int,
    kept: _Images,
) -> list[list[Asked]]:
    """What is asked of each image that is kept; see `build`."""
    places: dict[str, int] = {}
    asked: list[list[Asked]] = []
    bad: dict[str, str] = {}
    for one in found:
        if one.name in bad or (one.name not in places and len(places) == images):
            continue
        try:
            data = _usable(one, one.name not in places)
        except BadImage as error:
            bad[one.name if one.asked.answers else f"{one.name}: {one.asked.question[:40]!r}"] = str(error)
            if len(bad) > max_bad:
                raise UserError(
                    f"{name} {split}: data.max_bad={max_bad} samples may be unusable, but these are: {_listed(bad)}; "
                    "mend the data, or raise data.max_bad"
                ) from None
            continue
        if data is not None:
            places[one.name] = len(places)
            kept.add(data)
            asked.append([])
        questions = asked[places[one.name]]
        known = {(item.question, item.kind) for item in questions}
        if len(questions) < questions_per_image and (one.asked.question, one.asked.kind) not in known:
            questions.append(one.asked)
        if len(places) == images and all(len(of_image) == questions_per_image for of_image in asked):
            break
    if not asked:
        raise UserError(f"{name} {split}: no question is left; see that the data are the benchmark's")
    if bad:
        print(f"{name} {split}: left out {len(bad)} unusable samples: {_listed(bad)}")
    kept.flush()
    return asked


def _listed(bad: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in islice(bad.items(), 5))


def _usable(one: Found, new: bool) -> bytes | None:
    """The image of a question, if it is `new`. Raises BadImage if it, or the question, cannot be used."""
    if not one.asked.answers:
        raise BadImage("it has no answer")
    if not new:
        return None
    data = one.image()
    decoded(data)
    return data


def identity(data: bytes) -> str:
    """Tells an image, or its name, from another."""
    return hashlib.sha256(data).hexdigest()[:12]
