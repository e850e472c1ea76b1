"""easy-VQA: the published data set's own images, questions and split, shown as 2 x 2 contact sheets.

One easy-VQA image holds one shape on a plain ground, which a handful of random tokens would find. Four of them side by
side, each at a random place of a cell 8 pixels wider, make the choice of tokens matter. Half of the questions are the
package's own about one tile ("top-left : what color is the shape ?"); the other half compare its answers about two
("top-left and bottom-right : same color ?", yes and no equally often where the sheet allows).

Source: the `easy-vqa` package (V. Zhou, 2019). Its test images stay the test split; the last tenth of its train images
are the validation split. Images whose own questions do not tell both color and shape are left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations

import easy_vqa
import numpy as np
from PIL import Image

from grip_core.data.examples import IMAGE_SIZE, Example, Scene, SceneObject, Split

NAME = "easy_vqa"
TILE, SLACK = 64, 8
CELL = TILE + SLACK
TILE_NAMES = ("top-left", "top-right", "bottom-left", "bottom-right")
SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
VALIDATION_SHARE = 0.1


@dataclass
class _Tile:
    """What the package says of one of its images."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    facts: set[str] = field(default_factory=set)

    def value(self, words: tuple[str, ...]) -> str:
        return next((word for word in words if word in self.facts), "")


def build(split: str, n_images: int, questions_per_image: int, random: np.random.RandomState) -> Split:
    """Draw `n_images` contact sheets from the package's images of `split`.

    RandomState, not Generator: NumPy freezes its stream for ever, so `prepare` gives the same bytes under any version.
    """
    paths, tiles = _package_split(split)
    sprites = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    scenes, examples = [], []
    for image_id in range(n_images):
        source = random.choice(len(tiles), 4, replace=False)
        sheet = [tiles[i] for i in source]
        scenes.append(_scene(image_id, source, sprites, sheet, random))
        for number in range(questions_per_image):
            kind, question, answer = (_one_tile, _two_tiles)[number % 2](sheet, random)
            examples.append(
                Example(
                    id=f"{NAME}-{split}-{image_id}-{number}",
                    image_id=image_id,
                    question=question,
                    answer=answer,
                    kind=kind,
                    benchmark=NAME,
                    split=split,
                )
            )
    return Split(scenes, examples, sprites, render)


def render(scene: Scene, sprites: np.ndarray) -> np.ndarray:
    """The contact sheet, uint8 (IMAGE_SIZE, IMAGE_SIZE, 3): white gutters, the package's pixels unchanged."""
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 255, np.uint8)
    for sprite, top, left in scene.layout:
        image[top : top + TILE, left : left + TILE] = sprites[sprite]
    return image


def captions(scene: Scene) -> list[tuple[str, str]]:
    """Short prompts and answers about single tiles, for the first steps of the embedded VLM's training."""
    found = []
    for place, item in zip(TILE_NAMES, scene.objects, strict=True):
        color, shape = item.label.split()
        found += [(f"{place} color", color), (f"{place} shape", shape)]
    return found


def relations(scene: Scene, random: np.random.RandomState) -> list[tuple[str, str]]:
    """The questions about two tiles, all of them, for the middle of the embedded VLM's training."""
    words = [item.label.split() for item in scene.objects]
    found = []
    for first, second in combinations(range(4), 2):
        for position, name in enumerate(("color", "shape")):
            same = words[first][position] == words[second][position]
            found.append((f"{TILE_NAMES[first]} and {TILE_NAMES[second]} : same {name} ?", "yes" if same else "no"))
    return found


def _package_split(split: str) -> tuple[list[str], list[_Tile]]:
    """Paths and tiles of one split, only those whose color and shape the package's questions tell."""
    test = split == "test"
    paths = easy_vqa.get_test_image_paths() if test else easy_vqa.get_train_image_paths()
    texts, answers, image_ids = easy_vqa.get_test_questions() if test else easy_vqa.get_train_questions()
    tiles: dict[int, _Tile] = defaultdict(_Tile)
    for text, answer, image_id in zip(texts, answers, image_ids, strict=True):
        words = set(text.rstrip("?").split())
        tiles[image_id].asked.append((re.sub(r"\?$", " ?", text), answer))
        if (answer == "yes" and not words & {"no", "not"}) or answer not in ("yes", "no"):
            tiles[image_id].facts |= words | {answer}
    ids = sorted(paths)
    first_validation = len(ids) - int(len(ids) * VALIDATION_SHARE)
    ids = {"train": ids[:first_validation], "validation": ids[first_validation:], "test": ids}[split]
    ids = [i for i in ids if tiles[i].value(COLORS) and tiles[i].value(SHAPES)]
    return [paths[i] for i in ids], [tiles[i] for i in ids]


def _scene(
    image_id: int, source: np.ndarray, sprites: np.ndarray, sheet: list[_Tile], random: np.random.RandomState
) -> Scene:
    layout, objects = [], []
    for place, (sprite, tile) in enumerate(zip(source, sheet, strict=True)):
        shift_y, shift_x = random.randint(SLACK + 1, size=2).tolist()
        top, left = (place // 2) * CELL + shift_y, (place % 2) * CELL + shift_x
        layout.append((int(sprite), top, left))
        # The ground is plain: whatever differs much from the corner pixel is the shape.
        pixels = sprites[sprite].astype(np.int16)
        rows, columns = np.nonzero(np.abs(pixels - pixels[0, 0]).max(-1) > 40)
        first_row, last_row = int(rows.min()), int(rows.max())
        first_column, last_column = int(columns.min()), int(columns.max())
        box = (top + first_row, left + first_column, top + last_row + 1, left + last_column + 1)
        label = f"{tile.value(COLORS)} {tile.value(SHAPES)}"
        objects.append(SceneObject(label=label, box=box))
    return Scene(image_id=image_id, source=tuple(int(i) for i in source), layout=tuple(layout), objects=tuple(objects))


def _one_tile(sheet: list[_Tile], random: np.random.RandomState) -> tuple[str, str, str]:
    place = random.randint(4)
    question, answer = sheet[place].asked[random.randint(len(sheet[place].asked))]
    return "one tile", f"{TILE_NAMES[place]} : {question}", answer


def _two_tiles(sheet: list[_Tile], random: np.random.RandomState) -> tuple[str, str, str]:
    name, words = (("color", COLORS), ("shape", SHAPES))[random.randint(2)]
    same = {pair: sheet[pair[0]].value(words) == sheet[pair[1]].value(words) for pair in combinations(range(4), 2)}
    wanted = bool(random.randint(2))
    pairs = [pair for pair, is_same in same.items() if is_same == wanted] or list(same)
    first, second = pairs[random.randint(len(pairs))]
    question = f"{TILE_NAMES[first]} and {TILE_NAMES[second]} : same {name} ?"
    return "two tiles", question, "yes" if same[first, second] else "no"
