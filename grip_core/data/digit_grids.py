"""Digit grids: 4 x 4 grids of real handwritten digits, and questions that need one cell, two cells, a row or all of
them.

Source of the digits: scikit-learn's `load_digits` (the test set of the UCI optical recognition data, 1797 images of 8
x 8 pixels with 17 grey levels). Each digit is enlarged four times and set in a cell of 36 pixels. The digits
themselves, not only the grids, are split into train, validation and test.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from grip_core.data.examples import IMAGE_SIZE, Example, Scene, SceneObject, Split

NAME = "digit_grids"
GRID = 4
CELL = IMAGE_SIZE // GRID
SCALE = 4
DIGIT = 8 * SCALE
GUTTER = (CELL - DIGIT) // 2
RESIDUES = {"train": (0, 1, 2, 3, 4, 5, 6), "validation": (7,), "test": (8, 9)}  # of the index modulo ten


def build(split: str, n_images: int, questions_per_image: int, random: np.random.RandomState) -> Split:
    """Draw `n_images` grids from the digits of `split`, each digit in the middle of its cell.

    RandomState, not Generator: NumPy freezes its stream for ever, so `prepare` gives the same bytes under any version.
    """
    sprites, labels = _digits(split)
    scenes, examples = [], []
    for image_id in range(n_images):
        source = random.choice(len(sprites), GRID * GRID, replace=False)
        grid = labels[source].reshape(GRID, GRID)
        scenes.append(_scene(image_id, source, grid))
        for number in range(questions_per_image):
            kind, question, answer = _QUESTIONS[number % len(_QUESTIONS)](grid, random)
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
    """The grid, uint8 (IMAGE_SIZE, IMAGE_SIZE, 3): white digits on black."""
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for sprite, top, left in scene.layout:
        enlarged = sprites[sprite].repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        image[top : top + DIGIT, left : left + DIGIT] = enlarged[:, :, None]
    return image


def captions(scene: Scene) -> list[tuple[str, str]]:
    """Short prompts and answers about single cells, for the first steps of the embedded VLM's training."""
    places = [f"row-{cell // GRID + 1} column-{cell % GRID + 1}" for cell in range(GRID * GRID)]
    return [(place, item.label) for place, item in zip(places, scene.objects, strict=True)]


def relations(scene: Scene, random: np.random.RandomState) -> list[tuple[str, str]]:
    """Short prompts and answers about several cells at once, for the middle of the embedded VLM's training."""
    grid = np.array([int(item.label) for item in scene.objects]).reshape(GRID, GRID)
    found = [(f"many {digit}", str(int((grid == digit).sum()))) for digit in range(10)]
    for _ in range(8):
        row, digit, present = _digit_in_row(grid, random)
        found.append((f"{digit} row-{row + 1}", "yes" if present else "no"))
        places, larger = _two_cells(grid, random)
        found.append((f"larger {places[0]} {places[1]}", larger))
    return found


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Sprites uint8 (n, 8, 8) and labels (n,) of one split: of every ten digits in the file, seven, one and two."""
    data = load_digits()
    sprites = (data.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    part = np.isin(np.arange(len(sprites)) % 10, RESIDUES[split])
    return sprites[part], data.target[part]


def _scene(image_id: int, source: np.ndarray, grid: np.ndarray) -> Scene:
    layout, objects = [], []
    for cell, sprite in enumerate(source):
        top, left = (cell // GRID) * CELL + GUTTER, (cell % GRID) * CELL + GUTTER
        layout.append((int(sprite), top, left))
        objects.append(SceneObject(label=str(grid.flat[cell]), box=(top, left, top + DIGIT, left + DIGIT)))
    return Scene(image_id=image_id, source=tuple(int(i) for i in source), layout=tuple(layout), objects=tuple(objects))


def _read(grid: np.ndarray, random: np.random.RandomState) -> tuple[str, str, str]:
    row, column = random.randint(GRID, size=2)
    return "read", f"which digit is at row-{row + 1} column-{column + 1} ?", str(grid[row, column])


def _count(grid: np.ndarray, random: np.random.RandomState) -> tuple[str, str, str]:
    # Half of the questions are about a digit that is there: otherwise "0" or "1" is nearly always right.
    digit = int(random.choice(grid.ravel())) if random.randint(2) else random.randint(10)
    return "count", f"how many {digit} s ?", str(int((grid == digit).sum()))


def _in_row(grid: np.ndarray, random: np.random.RandomState) -> tuple[str, str, str]:
    row, digit, present = _digit_in_row(grid, random)
    return "in row", f"is there a {digit} in row-{row + 1} ?", "yes" if present else "no"


def _digit_in_row(grid: np.ndarray, random: np.random.RandomState) -> tuple[int, int, bool]:
    """A row, a digit, and whether the row has it: yes and no equally often."""
    row = random.randint(GRID)
    present = sorted(set(grid[row].tolist()))
    absent = [digit for digit in range(10) if digit not in present]
    wanted = bool(random.randint(2))
    return row, int(random.choice(present if wanted else absent)), wanted


def _larger(grid: np.ndarray, random: np.random.RandomState) -> tuple[str, str, str]:
    places, larger = _two_cells(grid, random)
    return "larger", f"which is larger , {places[0]} or {places[1]} ?", larger


def _two_cells(grid: np.ndarray, random: np.random.RandomState) -> tuple[list[str], str]:
    """The names of two cells and the larger of their digits."""
    first, second = sorted(random.choice(GRID * GRID, 2, replace=False).tolist())
    places = [f"row-{cell // GRID + 1} column-{cell % GRID + 1}" for cell in (first, second)]
    return places, str(max(grid.flat[first], grid.flat[second]))


_QUESTIONS = (_read, _count, _in_row, _larger)
