"""Models from folders."""

from __future__ import annotations

import json

import pytest
import torch

from grip_core.baselines import registry
from grip_core.errors import UserError
from grip_core.rl.teachers import TEACHERS
from grip_core.vlm.context import top_k
from grip_core.vlm.load import FAMILIES, TEMPLATE_FILE, load_vlm
from tests.conftest import ANSWERS, QUESTIONS


def save(family, folder):
    family.vlm.model.save_pretrained(folder)
    family.vlm.processor.tokenizer.save_pretrained(folder)
    family.vlm.processor.image_processor.save_pretrained(folder)


def test_a_saved_model_answers_as_before(family, tmp_path):
    save(family, tmp_path)
    (tmp_path / TEMPLATE_FILE).write_text(family.vlm.template)
    loaded = load_vlm(str(tmp_path), "compact")
    assert type(loaded) is type(family.vlm)
    assert loaded.positions == "compact"
    questions, answers = ["what color ?"] * 3, ["red"] * 3
    before, after = (vlm.logits(vlm.encode(family.images, questions, answers)) for vlm in (family.vlm, loaded))
    torch.testing.assert_close(after, before)


def test_a_model_in_half_precision_answers_nearly_alike_and_serves_every_method(family, tmp_path):
    save(family, tmp_path)
    (tmp_path / TEMPLATE_FILE).write_text(family.vlm.template)
    half = load_vlm(str(tmp_path), family.vlm.positions, "bfloat16")
    assert half.model.dtype == torch.bfloat16
    full, context = family.context(), half.encode(family.images, QUESTIONS, ANSWERS)
    assert context.visual_BND.dtype == context.question_BLD.dtype == torch.float32
    kept = top_k(torch.arange(full.n_visual).float().masked_fill(~full.visual_mask_BN, -torch.inf), 3)
    wanted, found = (vlm.answer_scores(item, kept, True) for vlm, item in ((family.vlm, full), (half, context)))
    torch.testing.assert_close(found.log_prob_R, wanted.log_prob_R, rtol=0.1, atol=0.1)
    assert not torch.equal(found.log_prob_R, wanted.log_prob_R)
    assert found.kl_R.dtype == torch.float32
    for name in registry.known():
        assert registry.create(name, half, 0).select(context, 3).mask_RK.any(1).all()
    for teacher in TEACHERS.values():
        assert teacher(half, context).isfinite().all()


def test_without_a_template_the_family_has_one(family, tmp_path):
    save(family, tmp_path)
    loaded = load_vlm(str(tmp_path), "original")
    assert loaded.template == FAMILIES[loaded.model.config.model_type].template
    assert loaded.template.count("{question}") == 1


def test_an_unknown_family_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip-2"}))
    with pytest.raises(UserError, match=r"blip-2, which is not supported; supported are: llava, qwen2_5_vl") as error:
        load_vlm(str(tmp_path), "original")
    assert "FrozenVLM" in str(error.value)


@pytest.mark.parametrize("content", [None, {}, {"model_type": "no such type"}])
def test_no_model_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(json.dumps(content))
    folder = tmp_path if content is not None else tmp_path / "missing"
    with pytest.raises(UserError, match="no model can be read from") as error:
        load_vlm(str(folder), "original")
    assert "\n" not in str(error.value)
