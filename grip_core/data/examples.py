"""What a benchmark is made of on disk and in memory.

A split is stored as *scenes* (small integer descriptions), *examples* (JSON lines) and *sprites* (raw pixels in
`.npy`). Images are rendered from them with integer arithmetic alone, so that the stored bytes and the pixels are the
same on every machine and under every version of an image codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grip_core.files import atomic_file, write_text

SPLITS = ("train", "validation", "test")
IMAGE_SIZE = 144  # pixels a side: 12 x 12 patches of 12 pixels


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question about one image. `kind` names the question's type, for accuracies by type."""

    id: str
    image_id: int
    question: str
    answer: str
    kind: str
    benchmark: str
    split: str


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """An object in an image: its class, its pixel box [top, left, bottom, right), and related objects' classes.

    Only the training of the embedded VLM reads these (auxiliary targets on the vision tower).
    """

    label: str
    box: tuple[int, int, int, int]
    nearest: str = ""
    furthest: str = ""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image before rendering. `source` lists the sprites' indices, so that overlap between splits can be checked."""

    image_id: int
    source: tuple[int, ...]
    layout: tuple[tuple[int, ...], ...]
    objects: tuple[SceneObject, ...]


Render = Callable[[Scene, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Split:
    """One split of one benchmark."""

    scenes: Sequence[Scene]
    examples: Sequence[Example]
    sprites: np.ndarray
    render: Render

    def image(self, image_id: int) -> np.ndarray:
        """Pixels of one image, uint8 (IMAGE_SIZE, IMAGE_SIZE, 3)."""
        return self.render(self.scenes[image_id], self.sprites)

    def worded(self, example: Example) -> list[Example]:
        """The example with each of the answers that are right: one."""
        return [example]

    def save(self, folder: Path) -> None:
        """Write the split to `folder`, each file whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "scenes.jsonl", _jsonl(self.scenes))
        write_text(folder / "examples.jsonl", _jsonl(self.examples))
        with atomic_file(folder / "sprites.npy") as file:
            np.lib.format.write_array(file, self.sprites, version=(1, 0))


def load_split(folder: Path, render: Render) -> Split:
    """Read what `Split.save` wrote. Raises FileNotFoundError when `folder` is not a stored split."""
    scenes = [_scene(json.loads(line)) for line in (folder / "scenes.jsonl").read_text().splitlines()]
    examples = [Example(**json.loads(line)) for line in (folder / "examples.jsonl").read_text().splitlines()]
    return Split(scenes, examples, np.load(folder / "sprites.npy"), render)


def _jsonl(items: Iterable) -> str:
    return "".join(json.dumps(asdict(item), separators=(",", ":")) + "\n" for item in items)


def _scene(raw: dict) -> Scene:
    return Scene(
        image_id=raw["image_id"],
        source=tuple(raw["source"]),
        layout=tuple(tuple(row) for row in raw["layout"]),
        objects=tuple(SceneObject(**{**item, "box": tuple(item["box"])}) for item in raw["objects"]),
    )
