"""What holds for every benchmark."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from grip_core.data.examples import IMAGE_SIZE, SPLITS, Split, load_split
from grip_core.data.registry import BENCHMARKS
from tests.data.conftest import IMAGES, QUESTIONS, build_afresh

CASES = [(name, split) for name in BENCHMARKS for split in SPLITS]

# SHA-256 of the files and of the pixels of the small builds. Every stored number rests on these bytes: update a
# line only when a benchmark is changed on purpose, and say so in the commit, for the VLM must then be trained again.
GOLDEN = {
    "easy_vqa/train": "fb07fbdfdeeff818",
    "easy_vqa/validation": "2896960e538c45b4",
    "easy_vqa/test": "4be4102127440fe8",
    "sort_of_clevr/train": "bae29bdf5f3e1f68",
    "sort_of_clevr/validation": "d1824e8a3f148909",
    "sort_of_clevr/test": "ad0a40f576a58baa",
    "digit_grids/train": "fa958bc783482bb8",
    "digit_grids/validation": "9472037b3159bf8d",
    "digit_grids/test": "884ed2e5992bd355",
}


def _fingerprint(split: Split, folder: Path) -> str:
    split.save(folder)
    digest = hashlib.sha256()
    for name in ("scenes.jsonl", "examples.jsonl", "sprites.npy"):
        digest.update((folder / name).read_bytes())
    for scene in split.scenes:
        digest.update(split.image(scene.image_id).tobytes())
    return digest.hexdigest()[:16]


def _images(split: Split) -> set[bytes]:
    return {split.image(scene.image_id).tobytes() for scene in split.scenes}


@pytest.mark.parametrize(("name", "split"), CASES)
def test_bytes_are_the_known_ones(build, tmp_path, name, split):
    assert _fingerprint(build(name, split), tmp_path) == GOLDEN[f"{name}/{split}"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_same_seed_same_bytes_and_other_seed_other_bytes(build, tmp_path, name):
    first = _fingerprint(build(name, "validation"), tmp_path / "first")
    assert _fingerprint(build_afresh(name, "validation", 0), tmp_path / "again") == first
    assert _fingerprint(build_afresh(name, "validation", 1), tmp_path / "other") != first


@pytest.mark.parametrize("name", BENCHMARKS)
def test_splits_share_no_image_and_no_sprite(build, name):
    for one, other in combinations(SPLITS, 2):
        assert not _images(build(name, one)) & _images(build(name, other))
        sprites = [{sprite.tobytes() for sprite in build(name, split).sprites} for split in (one, other)]
        assert not sprites[0] & sprites[1]


@pytest.mark.parametrize(("name", "split"), CASES)
def test_examples_are_well_formed(build, name, split):
    built = build(name, split)
    assert [scene.image_id for scene in built.scenes] == list(range(IMAGES))
    assert Counter(example.image_id for example in built.examples) == dict.fromkeys(range(IMAGES), QUESTIONS)
    assert len({example.id for example in built.examples}) == IMAGES * QUESTIONS
    for example in built.examples:
        assert (example.benchmark, example.split) == (name, split)
        assert example.answer
        assert example.question == " ".join(example.question.split()), "words are parted by single spaces"
        assert example.question.endswith(" ?")


@pytest.mark.parametrize(("name", "split"), CASES)
def test_images_show_the_objects_where_the_scene_says(build, name, split):
    built = build(name, split)
    for scene in built.scenes[:10]:
        image = built.image(scene.image_id)
        assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert image.dtype == np.uint8
        assert set(scene.source) <= set(range(len(built.sprites)))
        colors, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        ground = colors[counts.argmax()]
        for item in scene.objects:
            top, left, bottom, right = item.box
            assert 0 <= top < bottom <= IMAGE_SIZE
            assert 0 <= left < right <= IMAGE_SIZE
            assert (image[top:bottom, left:right] != ground).any(), "something is drawn there"


@pytest.mark.parametrize(("name", "split"), CASES)
def test_no_answer_dominates(build, name, split):
    """Always giving one answer must not pay: neither over all questions nor among those of yes and no."""
    answers = Counter(example.answer for example in build(name, split).examples)
    assert answers.most_common(1)[0][1] <= 0.55 * answers.total()
    assert 0.35 <= answers["yes"] / (answers["yes"] + answers["no"]) <= 0.65


@pytest.mark.parametrize("name", BENCHMARKS)
def test_save_and_load(build, tmp_path, name):
    built = build(name, "validation")
    built.save(tmp_path / "split")
    loaded = load_split(tmp_path / "split", built.render)
    assert loaded.scenes == built.scenes
    assert loaded.examples == built.examples
    assert np.array_equal(loaded.sprites, built.sprites)
    assert np.array_equal(loaded.image(IMAGES - 1), built.image(IMAGES - 1))
    assert sorted(path.name for path in (tmp_path / "split").iterdir()) == [
        "examples.jsonl",
        "scenes.jsonl",
        "sprites.npy",
    ]


def test_load_of_what_is_not_a_split(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_split(tmp_path, BENCHMARKS["digit_grids"].render)
