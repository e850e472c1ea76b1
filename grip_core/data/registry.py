"""The benchmarks by name. A new one that is built here is a module with NAME, `build` and `render`, and a line here;
one that is read is an entry in public.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np

from grip_core.config import DataConfig, PublicName
from grip_core.data import digit_grids, easy_vqa, sort_of_clevr
from grip_core.data.encoded import EncodedSplit, build
from grip_core.data.examples import Split, load_split
from grip_core.data.instruct import INSTRUCT, read_instruct
from grip_core.data.public import read_public
from grip_core.places import PREPARED
from grip_core.seeds import numpy_random

BENCHMARKS: dict[str, ModuleType] = {module.NAME: module for module in (easy_vqa, sort_of_clevr, digit_grids)}
"""Those that are built here."""


def splits_of(config: DataConfig) -> list[tuple[str, str]]:
    """Name and split of all that the pipeline reads."""
    trained = [(name, split) for name in config.trained_on for split in ("train", "validation")]
    return [*trained, *((name, "test") for name in config.benchmarks)]


def write_split(config: DataConfig, name: str, split: str, folder: Path) -> None:
    """Make a split, or read it from where it is, into `folder`. Raises UserError if it cannot be read."""
    images, questions = getattr(config.images, split), getattr(config.questions_per_image, split)
    if name in BENCHMARKS:
        made = BENCHMARKS[name].build(split, images, questions, numpy_random(config.seed, f"{name}/{split}"))
        made.save(folder)
        return
    if name == INSTRUCT:
        assert config.instruct is not None  # or it would not be trained on
        found = read_instruct(Path(config.instruct.json_file), Path(config.instruct.images), split, config.seed)
    else:
        known: dict[str, PublicName] = {one: one for one in get_args(PublicName)}
        found = read_public(known[name], split, config.sources.get(known[name]), config.seed)
    build(name, split, found, images, questions, config.max_bad, folder)


@cache
def prepared_split(name: str, split: str, root: Path = PREPARED) -> Split | EncodedSplit:
    """A split as the stage `prepare` has written it. Raises FileNotFoundError if it has not."""
    folder = root / name / split
    return load_split(folder, BENCHMARKS[name].render) if name in BENCHMARKS else EncodedSplit.load(folder)


def prepared_image(name: str, split: str, image_id: int) -> np.ndarray:
    """Pixels of one of its images, uint8 (height, width, 3)."""
    return prepared_split(name, split).image(image_id)
