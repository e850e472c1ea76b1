"""The feature cache: what it holds is what the VLM gives, and it is made anew when it must be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from grip_core.data.examples import Example, Scene, Split
from grip_core.errors import UserError
from grip_core.vlm.features import COMPLETE, cache_features, load_store
from grip_core.vlm.load import fingerprint
from tests.conftest import ANSWERS, QUESTIONS

IMAGES = 5


@pytest.fixture
def split() -> Split:
    sprites = np.random.RandomState(0).randint(256, size=(IMAGES, 144, 144, 3)).astype(np.uint8)
    scenes = [Scene(image_id=i, source=(i,), layout=(), objects=()) for i in range(IMAGES)]
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
        for i in range(IMAGES)
        for j in range(len(QUESTIONS))
    ]
    return Split(scenes, examples, sprites, lambda scene, sprites: sprites[scene.image_id])


def test_rows_are_what_the_vlm_gives_for_their_own_image(llava, split, tmp_path):
    cache_features(llava.vlm, split, tmp_path / "bench" / "train", 4, 2, batch_size=3, key="a")
    store = load_store(tmp_path, ["bench"], "train")
    assert len(store) == 4 * 2
    row = store.table.iloc[6]
    cached = store.context(llava.vlm, [6])
    fresh = llava.vlm.encode([split.image(row["image_id"])], [row["question"]], [row["answer"]])
    torch.testing.assert_close(cached.visual_BND, fresh.visual_BND, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cached.encoder_attention_BN, fresh.encoder_attention_BN, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cached.encoder_key_BNE, fresh.encoder_key_BNE, rtol=1e-4, atol=1e-5)
    assert torch.equal(cached.grid_BN2, fresh.grid_BN2)
    assert row["full_log_prob"] == pytest.approx(llava.vlm.answer_scores(fresh).log_prob_R.item(), abs=1e-4)


def test_a_cache_is_kept_under_its_key_and_made_anew_under_another(llava, split, tmp_path):
    folder = tmp_path / "bench" / "train"
    cache_features(llava.vlm, split, folder, 2, 1, batch_size=3, key="a")
    (folder / "grid.npy").write_bytes(b"kept")
    cache_features(llava.vlm, split, folder, 2, 1, batch_size=3, key="a")
    assert (folder / "grid.npy").read_bytes() == b"kept"
    cache_features(llava.vlm, split, folder, 2, 1, batch_size=3, key="b")
    assert (folder / "grid.npy").read_bytes() != b"kept"
    assert json.loads((folder / COMPLETE).read_text())["key"] == "b"


def test_an_incomplete_cache_is_not_read(llava, split, tmp_path):
    folder = tmp_path / "bench" / "train"
    cache_features(llava.vlm, split, folder, 2, 1, batch_size=3, key="a")
    (folder / COMPLETE).unlink()
    with pytest.raises(UserError, match="holds no complete feature cache"):
        load_store(tmp_path, ["bench"], "train")


def test_other_weights_have_another_fingerprint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint(str(tmp_path)) != first
