"""easy-VQA: what is asked and answered is what the package says of the very images that are shown."""

from __future__ import annotations

from collections import defaultdict

import easy_vqa as package
import numpy as np
import pytest
from PIL import Image

from grip_core.data import easy_vqa
from grip_core.data.examples import Scene, Split

PLACES = ("top-left", "top-right", "bottom-left", "bottom-right")
NEGATIONS = {"no", "not"}


@pytest.fixture(scope="module")
def published():
    """The package's test images by their pixels, and its questions about each."""
    ids = {
        np.asarray(Image.open(path).convert("RGB")).tobytes(): i for i, path in package.get_test_image_paths().items()
    }
    asked: dict[int, dict[str, str]] = defaultdict(dict)
    for question, answer, image_id in zip(*package.get_test_questions(), strict=True):
        asked[image_id][question] = answer
    return ids, asked


def _tiles(split: Split, scene: Scene) -> list[tuple[np.ndarray, int, int]]:
    """Each tile's pixels, top and left, in the order of PLACES."""
    image = split.image(scene.image_id)
    tiles = [(image[top : top + 64, left : left + 64], top, left) for _, top, left in scene.layout]
    assert [PLACES[2 * (top >= 72) + (left >= 72)] for _, top, left in tiles] == list(PLACES)
    return tiles


@pytest.fixture(scope="module")
def sheets(build, published):
    """The split, and the package's image ids of every sheet's tiles."""
    split, (ids, _) = build(easy_vqa.NAME, "test"), published
    return split, [[ids[tile.tobytes()] for tile, _, _ in _tiles(split, scene)] for scene in split.scenes]


def test_questions_about_one_tile_are_the_packages_own(sheets, published):
    split, ids = sheets
    _, asked = published
    examples = [example for example in split.examples if example.kind == "one tile"]
    assert len(examples) == len(split.examples) // 2
    for example in examples:
        place, question = example.question.split(" : ")
        image_id = ids[example.image_id][PLACES.index(place)]
        assert asked[image_id][question.replace(" ?", "?")] == example.answer, example


def test_labels_agree_with_every_question_of_the_package(sheets, published):
    split, ids = sheets
    _, asked = published
    for scene in split.scenes:
        for item, image_id in zip(scene.objects, ids[scene.image_id], strict=True):
            color, shape = item.label.split()
            assert color in easy_vqa.COLORS
            assert shape in easy_vqa.SHAPES
            for question, answer in asked[image_id].items():
                words = set(question.rstrip("?").split())
                named = words & {*easy_vqa.COLORS, *easy_vqa.SHAPES}
                if answer not in ("yes", "no"):
                    assert answer == (color if "color" in words else shape)
                    continue
                # "is there a red shape?" is about the color alone; a negation turns the answer.
                assert len(named) == 1
                assert (named <= {color, shape}) == ((answer == "yes") != bool(words & NEGATIONS)), question


def test_questions_about_two_tiles(sheets):
    split, _ = sheets
    for example in split.examples:
        if example.kind != "two tiles":
            continue
        pair, asked = example.question.split(" : ")
        first, second = (PLACES.index(place) for place in pair.split(" or "))
        words = asked.removeprefix("is there a ").removesuffix(" ?").split()
        labels = [item.label.split() for item in split.scenes[example.image_id].objects]
        assert first < second
        assert words[0] in easy_vqa.SHAPES or (words[0] in easy_vqa.COLORS and words[1] == "shape")
        assert example.answer == ("yes" if words[0] in labels[first] + labels[second] else "no"), example


def test_short_prompts_about_two_tiles_and_denials_are_true(sheets):
    split, _ = sheets
    for scene in split.scenes:
        labels = dict(zip(PLACES, (item.label.split() for item in scene.objects), strict=True))
        prompts = easy_vqa.relations(scene, np.random.RandomState(scene.image_id))
        assert len(prompts) == 2 * 6 + 4
        for prompt, answer in prompts:
            match prompt.split():
                case [first, "or", second, word]:
                    assert answer == ("yes" if word in labels[first] + labels[second] else "no"), prompt
                case [place, "not", word]:
                    assert answer == ("no" if word in labels[place] else "yes"), prompt
                case _:
                    pytest.fail(f"an unknown form: {prompt}")


def test_boxes_hold_the_whole_shape(sheets):
    """Outside its box a tile is nearly its plain ground."""
    split, _ = sheets
    for scene in split.scenes:
        for (tile, top, left), item in zip(_tiles(split, scene), scene.objects, strict=True):
            outside = np.ones(tile.shape[:2], bool)
            outside[item.box[0] - top : item.box[2] - top, item.box[1] - left : item.box[3] - left] = False
            difference = np.abs(tile[outside].astype(int) - tile[0, 0].astype(int))
            assert difference.max(initial=0) <= 40
