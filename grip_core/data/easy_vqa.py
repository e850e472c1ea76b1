"""easy-VQA: the published data set's own images, questions and split, shown as 2 x 2 contact sheets.

One easy-VQA image holds one shape on a plain ground, which a handful of random tokens would find. Four of them side by
side, each at a random place of a cell 8 pixels wider, make the choice of tokens matter. Half of the questions are the
package's own about one tile ("top-left : what color is the shape ?"), each kind of answer (yes, no, a color, a shape)
equally often where the image has it: of the package's answers three in four are yes or no, and four in five of those to
a denial are yes, whatever the image. The other half put its simplest question to two tiles ("top-left or bottom-right :
is there a red shape ?"), yes and no equally often.

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
ATTRIBUTES = (COLORS, SHAPES)
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
    """Short prompts and answers about two tiles, and denials about one, for the middle of the embedded VLM's training.

    What the package denies is seldom there: a model that leans on that prior is slow to look.
    """
    words = [item.label.split() for item in scene.objects]
    found = []
    for first, second in combinations(range(4), 2):
        for attribute in (0, 1):
            word, present = _word(attribute, {words[first][attribute], words[second][attribute]}, random)
            found.append((f"{TILE_NAMES[first]} or {TILE_NAMES[second]} {word}", "yes" if present else "no"))
    for place, own in zip(TILE_NAMES, words, strict=True):
        attribute = random.randint(2)
        word, present = _word(attribute, {own[attribute]}, random)
        found.append((f"{place} not {word}", "no" if present else "yes"))
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
    by_kind: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for question, answer in sheet[place].asked:
        by_kind["color" if answer in COLORS else "shape" if answer in SHAPES else answer].append((question, answer))
    asked = by_kind[sorted(by_kind)[random.randint(len(by_kind))]]
    question, answer = asked[random.randint(len(asked))]
    return "one tile", f"{TILE_NAMES[place]} : {question}", answer


def _two_tiles(sheet: list[_Tile], random: np.random.RandomState) -> tuple[str, str, str]:
    first, second = sorted(random.choice(4, 2, replace=False).tolist())
    attribute = random.randint(2)
    shown = {sheet[i].value(ATTRIBUTES[attribute]) for i in (first, second)}
    word, present = _word(attribute, shown, random)
    thing = (f"{word} shape", word)[attribute]
    question = f"{TILE_NAMES[first]} or {TILE_NAMES[second]} : is there a {thing} ?"
    return "two tiles", question, "yes" if present else "no"


def _word(attribute: int, shown: set[str], random: np.random.RandomState) -> tuple[str, bool]:
    """A word for a color (attribute 0) or a shape (1), and whether it is among those shown: yes and no as often."""
    present = bool(random.randint(2))
    words = [word for word in ATTRIBUTES[attribute] if (word in shown) == present]
    return words[random.randint(len(words))], present
