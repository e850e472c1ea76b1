"""The feature cache: what is frozen is computed once and read from memory-mapped files, which all processes of a
machine share.

A folder holds one split of one benchmark in shards of some images each: `00000.safetensors` with their visual tokens
one after another in the VLM's own precision, and `00000.parquet` with their questions and what the full model and the
model without the image make of them. A shard is written whole or not at all, so that an interrupted stage goes on after
the last one. `complete.json` is written last.

Images past the cache's limit have their questions in the tables alone: their tokens are computed whenever they are
asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from grip_core.data.encoded import EncodedSplit
from grip_core.data.examples import Example, Split
from grip_core.data.registry import prepared_image
from grip_core.errors import UserError
from grip_core.files import atomic_file, write_text
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.frozen import FrozenVLM, VisualFeatures
from grip_core.vlm.protocol import AnsweringVLM

COMPLETE, KEY = "complete.json", "key.txt"
IN_SHARD = 100
"""Images."""
ANSWERED = ("image_row", "tokens", "full_log_prob", "full_correct", "blind_log_prob", "blind_correct")
COLUMNS = [*(item.name for item in fields(Example)), *ANSWERED]
"""Of the tables."""
NAMES = {
    "visual": "visual_BND",
    "grid": "grid_BN2",
    "attention": "encoder_attention_BN",
    "key": "encoder_key_BNE",
    "deep": "deep_BNMD",
}
"""A shard's tensors, of all tokens of all its images, and the fields of VisualFeatures that they are of."""


@dataclass(frozen=True)
class Shard:
    """Features of some images: tensors by NAMES, and where each image's tokens begin and end."""

    tensors: Mapping[str, torch.Tensor]
    ends_I: Sequence[int]
    """First token after each image's; the first image begins at 0."""

    @classmethod
    def of(cls, batches: Sequence[VisualFeatures]) -> Shard:
        """Without padding."""
        parts = {name: [_real(batch, field) for batch in batches] for name, field in NAMES.items()}
        tensors = {
            name: torch.cat([value for value in values if value is not None]).contiguous()
            for name, values in parts.items()
            if values[0] is not None
        }
        sizes_I = torch.cat([batch.visual_mask_BN.sum(1).cpu() for batch in batches])
        return cls(tensors, sizes_I.cumsum(0).tolist())

    @classmethod
    def read(cls, path: Path) -> Shard:
        """Memory-mapped: only what is asked for is read from the disk."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return cls(tensors, tensors.pop("ends").tolist())

    def write(self, path: Path) -> None:
        """Straight from the tensors, of which there may be gigabytes."""
        save_file({**self.tensors, "ends": torch.tensor(self.ends_I)}, path)

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(value.nbytes for value in self.tensors.values())

    def image(self, row: int) -> dict[str, torch.Tensor]:
        """The tensors of one image."""
        start = self.ends_I[row - 1] if row else 0
        return {name: value[start : self.ends_I[row]] for name, value in self.tensors.items()}


def _real(batch: VisualFeatures, field: str) -> torch.Tensor | None:
    value = getattr(batch, field)
    return None if value is None else value[batch.visual_mask_BN].cpu()


@dataclass(frozen=True)
class FeatureStore:
    """Cached features of examples.

    `table` has a row per example: id, image_id, question, answer, kind, benchmark, split, full_log_prob, full_correct,
    blind_log_prob, blind_correct (without the image), and where its image's features lie: `shard`, an index into the
    shards, and `image_row` in it. Of images that are not in the cache `shard` is negative; with `image_row` it tells
    them apart.
    """

    table: pd.DataFrame
    shards: Sequence[Shard]
    n_visual: int
    """N: visual tokens of the image that has the most."""
    width: int
    """D, of a visual token."""
    image: Callable[[str, str, int], np.ndarray] = prepared_image
    """Pixels by benchmark, split and image_id, of images that are not in the cache."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def image_size(self) -> int:
        """Numbers of the visual tokens of the image that has the most, with what decoder layers add to them."""
        deep = self.shards[0].tensors.get("deep") if self.shards else None
        return self.n_visual * self.width * (1 if deep is None else 1 + deep.shape[1])

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns that every image has, a visual token in each cell; None if images differ, if tokens are not
        the cells of a grid, as those in one row, which are a Q-Former's, or if some are not in the cache."""
        if (self.table["shard"] < 0).any():
            return None
        ends = torch.cat([torch.tensor(shard.ends_I).diff(prepend=torch.tensor([0])) for shard in self.shards])
        tokens_NI2 = torch.cat([shard.tensors["grid"] for shard in self.shards]).split(ends.tolist())
        rows, columns = (int(side) for side in tokens_NI2[0].amax(0) + 1)
        cells_N2 = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2)
        return (rows, columns) if rows > 1 and all(torch.equal(one, cells_N2) for one in tokens_NI2) else None

    def subset(self, index: Sequence[int] | np.ndarray) -> FeatureStore:
        """The examples `index` names, over the same arrays."""
        table = self.table.iloc[index].reset_index(drop=True)
        return replace(self, table=table)

    def context(self, vlm: AnsweringVLM, index: Sequence[int] | np.ndarray) -> Context:
        """Prompts for the examples `index` names (positions in the table)."""
        rows = self.table.iloc[np.asarray(index)]
        return vlm.context(self._features(vlm, rows), list(rows["question"]), list(rows["answer"]))

    def _features(self, vlm: AnsweringVLM, rows: pd.DataFrame) -> VisualFeatures:
        places = list(zip(rows["shard"], rows["image_row"], strict=True))
        absent = {place: number for number, place in enumerate(places) if place[0] < 0}
        computed = dict(zip(absent, self._computed(vlm, rows.iloc[list(absent.values())]), strict=True))
        images = [computed[place] if place in computed else self.shards[place[0]].image(place[1]) for place in places]
        columns: dict[str, Any] = {name: [image[name] for image in images] for name in images[0]}
        return VisualFeatures.padded(**columns).to(vlm.device)

    def _computed(self, vlm: AnsweringVLM, rows: pd.DataFrame) -> list[dict[str, torch.Tensor]]:
        if rows.empty:
            return []
        asked = zip(rows["benchmark"], rows["split"], rows["image_id"], strict=True)
        features = vlm.visual_features([self.image(*place) for place in asked], list(rows["question"]))
        shard = Shard.of([features])
        return [shard.image(row) for row in range(len(rows))]


def load_store(root: Path, benchmarks: Sequence[str], split: str) -> FeatureStore:
    """One store over the folders `root`/<benchmark>/`split`. Raises UserError if one is missing or incomplete."""
    tables: list[pd.DataFrame] = []
    shards: list[Shard] = []
    absent = 0
    sizes: list[tuple[int, int]] = []
    for benchmark in benchmarks:
        folder = root / benchmark / split
        if not (folder / COMPLETE).exists():
            raise UserError(f"{folder} holds no complete feature cache; run `dvc repro features` first")
        complete = json.loads((folder / COMPLETE).read_text())
        sizes.append((complete["tokens"], complete["width"]))
        for path in sorted(folder.glob("*.parquet")):
            cached = path.with_suffix(".safetensors")
            if cached.exists():
                place = len(shards)
                shards.append(Shard.read(cached))
            else:
                absent += 1
                place = -absent
            table = pd.read_parquet(path)
            if len(table):  # without rows it has no types, and would take those of the others away
                tables.append(table.assign(shard=place))
    n_visual, width = map(max, zip(*sizes, strict=True))
    return FeatureStore(pd.concat(tables, ignore_index=True), shards, n_visual, width)


@dataclass
class Room:
    """What a cache may take on the disk, in bytes, and what it has taken."""

    limit: float = math.inf
    taken: int = 0
    largest: int = 0
    """Of what has been taken or refused so far."""

    @property
    def left(self) -> float:
        """What may still be taken."""
        return self.limit - self.taken

    def take(self, size: int) -> bool:
        """Whether so many bytes more are within the limit; then they count."""
        self.largest = max(self.largest, size)
        if self.taken + size > self.limit:
            return False
        self.taken += size
        return True


@dataclass(frozen=True)
class Item:
    """What one row of a shard is of: an image with the questions about it, or, where visual tokens depend on the
    question, with one of them."""

    image_id: int
    examples: list[Example] = field(default_factory=list)


def cache_features(
    vlm: FrozenVLM,
    split: Split | EncodedSplit,
    folder: Path,
    images: int,
    questions_per_image: int,
    batch_size: int,
    key: str,
    room: Room | None = None,
    max_bad: int = 0,
) -> None:
    """Compute the cache of the first `images` images and the first `questions_per_image` questions of each, of what
    fits into `room`.

    Shards that lie there under the same `key` are kept, so that an interrupted stage goes on where it was. Questions
    that are too long for the VLM are left out; raises UserError once they are more than `max_bad`.
    """
    room = Room() if room is None else room
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / KEY).exists() or (folder / KEY).read_text() != key:
        for path in folder.iterdir():
            path.unlink()
        write_text(folder / KEY, key)
    items = list(_items(vlm, split, images, questions_per_image))
    name = f"{folder.parent.name} {folder.name}"
    most, left_out = 0, 0
    for number, start in enumerate(tqdm(range(0, len(items), IN_SHARD), desc=f"features {name}", unit="shard")):
        part = items[start : start + IN_SHARD]
        tokens, asked = _shard(vlm, split, part, folder / f"{number:05d}", room, batch_size)
        most = max(most, tokens)
        left_out += sum(len(item.examples) for item in part) - asked
        if left_out > max_bad:
            raise UserError(
                f"{name}: data.max_bad={max_bad} samples may be unusable, but {left_out} questions are longer than the "
                f"{vlm.max_length} tokens that the VLM reads; shorten them, or raise data.max_bad"
            )
    if left_out:
        print(f"{name}: left out {left_out} questions that are too long for the VLM")
    width = vlm.embed.weight.shape[1]
    write_text(folder / COMPLETE, json.dumps({"key": key, "images": images, "tokens": most, "width": width}))


def _items(vlm: FrozenVLM, split: Split | EncodedSplit, images: int, questions_per_image: int) -> Iterator[Item]:
    by_image: dict[int, list[Example]] = {}
    for example in split.examples:
        if example.image_id < images:
            by_image.setdefault(example.image_id, []).append(example)
    for image_id, examples in sorted(by_image.items()):
        asked = examples[:questions_per_image]
        yield from [Item(image_id, [one]) for one in asked] if vlm.reads_questions else [Item(image_id, asked)]


def _shard(
    vlm: FrozenVLM, split: Split | EncodedSplit, items: Sequence[Item], path: Path, room: Room, batch_size: int
) -> tuple[int, int]:
    """Write one shard, unless it is there; how many tokens the largest image that is asked about has, and how many
    questions are in it."""
    cached, table = path.with_suffix(".safetensors"), path.with_suffix(".parquet")
    if table.exists() and (cached.exists() or room.left < room.largest):
        if cached.exists() and not room.take(Shard.read(cached).size):
            cached.unlink()
        tokens = pd.read_parquet(table, columns=["tokens"])["tokens"].tolist()
        return max(tokens, default=0), len(tokens)
    batches: list[VisualFeatures] = []
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        features = vlm.visual_features(
            [split.image(item.image_id) for item in part], [item.examples[0].question for item in part]
        )
        batches.append(features.to(torch.device("cpu")))
        layouts = vlm.layouts(features)
        asked = [
            (row, worded)
            for row, item in enumerate(part)
            for example in item.examples
            for worded in split.worded(example)
            if vlm.fits(worded.question, layouts[row], worded.answer)
        ]
        asked = _preferred(vlm, features, asked, batch_size)
        for chunk in range(0, len(asked), batch_size):
            rows += _answers(vlm, features, asked[chunk : chunk + batch_size], start)
    data = Shard.of(batches)
    del batches
    if room.take(data.size):
        with atomic_file(cached) as file:
            data.write(Path(file.name))
    # Last, for with it a shard is done.
    with atomic_file(table) as file:
        pd.DataFrame(rows, columns=COLUMNS).to_parquet(file, index=False)
    return max((row["tokens"] for row in rows), default=0), len(rows)


def _preferred(
    vlm: FrozenVLM, features: VisualFeatures, asked: Sequence[tuple[int, Example]], batch_size: int
) -> list[tuple[int, Example]]:
    """Each question once, of the answers that are right with the one that the full model writes, or else finds
    likeliest: another wording of it would be wrong whatever is kept."""
    if len({example.id for _, example in asked}) == len(asked):
        return list(asked)
    best: dict[str, tuple[int, Example]] = {}
    ranks: dict[str, tuple[bool, float]] = {}
    for chunk in range(0, len(asked), batch_size):
        part = asked[chunk : chunk + batch_size]
        scores = vlm.answer_scores(_context(vlm, features, part))
        ranked = zip(scores.correct_R.tolist(), scores.log_prob_R.tolist(), strict=True)
        for (row, example), rank in zip(part, ranked, strict=True):
            if example.id not in ranks or rank > ranks[example.id]:
                ranks[example.id], best[example.id] = rank, (row, example)
    return list(best.values())


def _context(vlm: FrozenVLM, features: VisualFeatures, asked: Sequence[tuple[int, Example]]) -> Context:
    """Prompts of questions about some of the images."""
    places = torch.tensor([row for row, _ in asked], device=features.visual_BND.device)
    examples = [example for _, example in asked]
    return vlm.context(features.rows(places), [e.question for e in examples], [e.answer for e in examples])


def _answers(
    vlm: FrozenVLM, features: VisualFeatures, asked: Sequence[tuple[int, Example]], first: int
) -> list[dict[str, Any]]:
    """Table rows of some questions: what the full model and the model without the image make of them.

    The batch's first image is the shard's image `first`.
    """
    context = _context(vlm, features, asked)
    tokens_R = context.visual_mask_BN.sum(1).tolist()
    full, blind = vlm.answer_scores(context), vlm.answer_scores(context, Selection.none(context))
    return [
        {
            **asdict(example),
            "image_row": first + row,
            "tokens": tokens_R[i],
            "full_log_prob": full.log_prob_R[i].item(),
            "full_correct": full.correct_R[i].item(),
            "blind_log_prob": blind.log_prob_R[i].item(),
            "blind_correct": blind.correct_R[i].item(),
        }
        for i, (row, example) in enumerate(asked)
    ]
