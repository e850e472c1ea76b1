"""The feature cache: what it holds is what the VLM gives, and it is made anew when it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from grip_core.data.examples import Example, Scene, Split
from grip_core.errors import UserError
from grip_core.vlm.families.blip2 import Blip2VLM
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.features import FeatureStore, Room, Shard, cache_features, load_store
from grip_core.vlm.load import fingerprint
from grip_core.vlm.wire import tensors_of
from tests.families import ANSWERS, QUESTIONS, Family

IMAGES = 3


def split_of(images: Sequence[np.ndarray]) -> Split:
    """Three questions about each."""
    scenes = [Scene(image_id=i, source=(i,), layout=(), objects=()) for i in range(len(images))]
    examples = [
        Example(
            id=f"{i}-{j}",
            image_id=i,
            question=QUESTIONS[j],
            answer=ANSWERS[j],
            kind="any",
            benchmark="bench",
            split="train",
        )
        for i in range(len(images))
        for j in range(len(QUESTIONS))
    ]
    return Split(scenes, examples, np.zeros(0), lambda scene, _: images[scene.image_id])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("grip_core.vlm.features.IN_SHARD", 2)


def cache(family: Family, root: Path, key: str = "a", images: int = IMAGES, room: Room | None = None) -> Path:
    """Two questions about each image, two images a shard."""
    folder = root / "bench" / "train"
    cache_features(family.vlm, split_of(family.images), folder, images, 2, batch_size=2, key=key, room=room)
    return folder


def check_contexts(family: Family, store: FeatureStore) -> None:
    """Prompts of all examples together are those of their own images."""
    table = store.table
    assert table["id"].tolist() == [f"{i}-{j}" for i in range(IMAGES) for j in range(2)]
    fresh = family.vlm.encode(
        [family.images[i] for i in table["image_id"]], list(table["question"]), list(table["answer"])
    )
    cached = store.context(family.vlm, range(len(store)))
    for name, wanted in tensors_of(fresh).items():
        torch.testing.assert_close(getattr(cached, name), wanted, rtol=1e-4, atol=1e-5)
    scores = family.vlm.answer_scores(fresh)
    assert table["full_log_prob"].tolist() == pytest.approx(scores.log_prob_R.tolist(), abs=1e-4)
    assert table["tokens"].tolist() == fresh.visual_mask_BN.sum(1).tolist()
    assert store.n_visual == fresh.n_visual


def test_prompts_are_those_of_their_own_images(family, tmp_path):
    folder = cache(family, tmp_path)
    store = load_store(tmp_path, ["bench"], "train")
    check_contexts(family, store)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        f"0000{i}.safetensors" for i in range(len(store.shards))
    ]
    assert len(store.shards) == (3 if family.vlm.reads_questions else 2)


def test_only_tokens_that_have_places_in_an_image_lie_on_a_grid(family, tmp_path):
    cache(family, tmp_path)
    grid, queries = load_store(tmp_path, ["bench"], "train").grid, isinstance(family.vlm, Blip2VLM)
    assert grid is None if queries else grid is None or min(grid) > 1
    if type(family.vlm) is LlavaVLM:
        assert grid[0] * grid[1] == family.context().n_visual


@pytest.mark.parametrize("cached", [0, 1])
def test_what_does_not_fit_is_computed_when_it_is_asked_for(family, tmp_path, cached):
    sizes = [path.stat().st_size for path in sorted(cache(family, tmp_path / "whole").glob("*.safetensors"))]
    folder = cache(family, tmp_path / "part", room=Room(sum(sizes[:cached])))
    assert len(list(folder.glob("*.safetensors"))) == cached
    store = load_store(tmp_path / "part", ["bench"], "train")
    check_contexts(family, replace(store, image=lambda benchmark, split, image_id: family.images[image_id]))


def test_an_image_that_several_questions_are_about_is_encoded_once(family, tmp_path, monkeypatch):
    cache(family, tmp_path, room=Room(0))
    store = load_store(tmp_path, ["bench"], "train")
    store = replace(store, image=lambda benchmark, split, image_id: family.images[image_id])
    encoded = []
    whole = type(family.vlm).visual_features

    def counted(vlm, images, questions=None):
        encoded.append(len(images))
        return whole(vlm, images, questions)

    monkeypatch.setattr(type(family.vlm), "visual_features", counted)
    context = store.context(family.vlm, [*range(len(store)), 0])
    assert context.batch_size == len(store) + 1 == 7
    assert encoded == [6 if family.vlm.reads_questions else 3]


def test_questions_that_are_too_long_are_left_out_up_to_a_limit(llava, tmp_path, monkeypatch, capsys):
    context = llava.context()
    lengths = (context.attention_mask_BT.sum(1) + context.answer_mask_BA.sum(1)).tolist()
    assert lengths[1] > lengths[0]
    monkeypatch.setattr(llava.vlm.language_model.config, "max_position_embeddings", lengths[0])
    folder = tmp_path / "bench" / "train"
    given = (llava.vlm, split_of(llava.images), folder, IMAGES, 2, 2, "a", None)
    with pytest.raises(UserError, match=rf"data.max_bad=1 .* but 2 questions are longer than the {lengths[0]} tokens"):
        cache_features(*given, 1)
    cache_features(*given, 3)
    assert "left out 3 questions" in capsys.readouterr().out
    assert load_store(tmp_path, ["bench"], "train").table["id"].tolist() == ["0-0", "1-0", "2-0"]
    with pytest.raises(UserError, match=f"must fit into the {lengths[0]} tokens .* but has {lengths[1]}"):
        llava.context()


def test_a_shard_of_no_questions_takes_nothing_from_the_others(llava, tmp_path, monkeypatch):
    short = chain([True] * 4, repeat(False))  # none about the last shard's one image
    monkeypatch.setattr(type(llava.vlm), "fits", lambda *_: next(short))
    folder = tmp_path / "bench" / "train"
    given = (llava.vlm, split_of(llava.images), folder, IMAGES, 2, 2, "a", None, 2)
    cache_features(*given)
    whole = (folder / "complete.json").read_text()
    store = load_store(tmp_path, ["bench"], "train")
    assert store.table["full_correct"].dtype == bool
    assert len(store) == 4
    cache_features(*given)
    assert (folder / "complete.json").read_text() == whole


def test_a_smaller_batch_keeps_what_is_there(llava, tmp_path):
    folder = cache(llava, tmp_path)
    (folder / "00001.parquet").unlink()
    made = (folder / "00000.safetensors").stat().st_mtime_ns
    cache_features(llava.vlm, split_of(llava.images), folder, IMAGES, 2, 1, "a")
    assert (folder / "00000.safetensors").stat().st_mtime_ns == made
    check_contexts(llava, load_store(tmp_path, ["bench"], "train"))


def test_more_room_is_used_and_less_is_given_back(llava, tmp_path):
    folder = cache(llava, tmp_path, room=Room(0))
    assert not list(folder.glob("*.safetensors"))
    cache(llava, tmp_path)
    assert len(list(folder.glob("*.safetensors"))) == 2
    check_contexts(llava, load_store(tmp_path, ["bench"], "train"))
    cache(llava, tmp_path, room=Room(Shard.read(folder / "00000.safetensors").size))
    assert [path.name for path in folder.glob("*.safetensors")] == ["00000.safetensors"]


def test_an_interrupted_cache_goes_on_after_its_last_shard(llava, tmp_path, monkeypatch):
    encoded = []
    whole = type(llava.vlm).visual_features

    def counted(vlm, images, questions=None):
        if len(encoded) == 1:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return whole(vlm, images, questions)

    monkeypatch.setattr(type(llava.vlm), "visual_features", counted)
    with pytest.raises(KeyboardInterrupt):
        cache(llava, tmp_path)
    with pytest.raises(UserError, match="holds no complete feature cache"):
        load_store(tmp_path, ["bench"], "train")
    encoded[:] = [0, 0]
    cache(llava, tmp_path)
    assert encoded == [0, 0, 1]
    check_contexts(llava, load_store(tmp_path, ["bench"], "train"))


def test_a_cache_is_kept_under_its_key_and_made_anew_under_another(llava, tmp_path):
    folder = cache(llava, tmp_path)
    made = (folder / "00000.safetensors").stat().st_mtime_ns
    cache(llava, tmp_path)
    assert (folder / "00000.safetensors").stat().st_mtime_ns == made
    cache(llava, tmp_path, key="b", images=1)
    assert (folder / "00000.safetensors").stat().st_mtime_ns != made
    assert len(load_store(tmp_path, ["bench"], "train")) == 2


def test_other_weights_have_another_fingerprint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint(str(tmp_path)) != first


def test_a_hub_ids_fingerprint_is_its_commit(tmp_path, monkeypatch):
    """A cache as the Hub's client leaves it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = tmp_path / "models--some--model"
    (stored / "snapshots" / commit).mkdir(parents=True)
    (stored / "snapshots" / commit / "config.json").write_text("{}")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fingerprint("some/model") == commit
    with pytest.raises(UserError, match="no model can be read from some/other"):
        fingerprint("some/other")


def test_the_wording_is_the_full_models(llava, tmp_path):
    """Of those that are right, the one that it writes, or else finds likeliest."""
    words = ("red", "yes", "blue")
    context = llava.vlm.encode(llava.images[:1] * 3, [QUESTIONS[0]] * 3, words)
    scores = llava.vlm.answer_scores(context)
    assert not scores.correct_R.any()
    likeliest = int(scores.log_prob_R.argmax())
    (written,) = llava.vlm.generate(llava.vlm.encode(llava.images[:1], QUESTIONS[:1], [""]), max_new_tokens=1)
    wrote = llava.vlm.processor.tokenizer.decode(written)
    for number, right in enumerate((words, (*words, wrote))):
        split = split_of(llava.images)
        split = WordedSplit(split.scenes, split.examples, split.sprites, split.render, right)
        cache_features(llava.vlm, split, tmp_path / str(number) / "bench" / "train", 1, 1, 2, "a")
        table = load_store(tmp_path / str(number), ["bench"], "train").table
        assert table["answer"].tolist() == [words[likeliest] if number == 0 else wrote]
        assert table["full_correct"].tolist() == [number == 1]


@dataclass(frozen=True)
class WordedSplit(Split):
    """One where several answers are right."""

    right: tuple[str, ...] = ()

    def worded(self, example: Example) -> list[Example]:
        return [replace(example, answer=answer) for answer in self.right]
