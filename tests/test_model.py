"""The model that a user keeps: budgets at call time, saving, its card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grip_core.card import model_card
from grip_core.errors import UserError
from grip_core.model import GripModel, budgets, pixels
from grip_core.policy.saved import save_scorer
from grip_core.policy.scorer import Scorer, ScorerConfiguration
from grip_core.vlm.context import Selection
from grip_core.vlm.load import load_vlm
from tests.families import BUILDERS, QUESTIONS, Family
from tests.vlm.test_load import save


def make_scorer(width: int = 32) -> Scorer:
    torch.manual_seed(0)
    scorer = Scorer(ScorerConfiguration(input_width=width, width=16, layers=1, heads=2)).eval()
    scorer.score.weight.data = torch.randn(1, 16)
    return scorer


@pytest.fixture(scope="module", params=BUILDERS)
def any_family(request) -> Family:
    return BUILDERS[request.param]()


def test_all_tokens_give_the_answer_of_the_vlm_itself(any_family):
    model = GripModel(any_family.vlm, make_scorer())
    found = model.generate(any_family.images, QUESTIONS, keep_ratio=1.0, max_new_tokens=5)
    ids_RS = any_family.vlm.generate(any_family.context(), max_new_tokens=5)
    texts = any_family.vlm.processor.tokenizer.batch_decode(ids_RS, skip_special_tokens=True)
    assert found == [text.strip() for text in texts]


def test_each_image_keeps_its_own_share(any_family):
    model, context = GripModel(any_family.vlm, make_scorer()), any_family.context()
    n_B = context.visual_mask_BN.sum(1)
    selection = model.select(context, keep_ratio=0.25)
    assert selection.mask_RK.sum(1).tolist() == [-(-n // 4) for n in n_B.tolist()]
    assert model.select(context, keep=3).mask_RK.sum(1).tolist() == n_B.clamp(max=3).tolist()


def test_what_is_kept_is_what_the_scorer_rates_best(llava):
    model, context = GripModel(llava.vlm, make_scorer()), llava.context()
    scores_BN = model.scorer(context, torch.tensor([5, 5, 5]))
    best_BK = scores_BN.argsort(1, descending=True)[:, :5].sort(1).values
    assert torch.equal(model.select(context, keep=5).kept_RK, best_BK)
    answers = model.generate(llava.images, QUESTIONS, keep=5, max_new_tokens=4)
    ids_RS = llava.vlm.generate(context, Selection.of(best_BK), 4)
    assert answers == [t.strip() for t in llava.vlm.processor.tokenizer.batch_decode(ids_RS, skip_special_tokens=True)]


def test_budgets_by_hand():
    n_B = torch.tensor([30, 7, 576])
    assert budgets(n_B, 0.1, None).tolist() == [3, 1, 58]
    assert budgets(n_B, 0.001, None).tolist() == [1, 1, 1]
    assert budgets(n_B, 1.0, None).tolist() == [30, 7, 576]
    assert budgets(n_B, None, 10).tolist() == [10, 7, 10]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "exactly one of keep_ratio and keep"),
        ({"keep_ratio": 0.5, "keep": 3}, "exactly one of keep_ratio and keep"),
        ({"keep_ratio": 0.0}, "above 0 and at most 1, but got 0.0"),
        ({"keep_ratio": 1.5}, "above 0 and at most 1, but got 1.5"),
        ({"keep": 0}, "at least 1, but got 0"),
    ],
)
def test_a_budget_that_is_none_is_refused(llava, given, said):
    with pytest.raises(ValueError, match=said):
        GripModel(llava.vlm, make_scorer()).generate(llava.images[:1], QUESTIONS[:1], **given)


def test_a_scorer_of_another_model_is_refused(llava):
    with pytest.raises(UserError, match="the VLM's width 32, but it is for 48"):
        GripModel(llava.vlm, make_scorer(48))


def test_it_is_read_from_folders(llava, tmp_path):
    save(llava, tmp_path / "vlm")
    (tmp_path / "vlm" / "prompt_template.txt").write_text(llava.vlm.template)
    model = GripModel(llava.vlm, make_scorer())
    model.save_pretrained(tmp_path / "scorer")
    assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "scorer").iterdir()}
    given = (str(tmp_path / "vlm"), str(tmp_path / "scorer"))
    again = GripModel.from_pretrained(*given, dtype=torch.float32, device="cpu")
    asked = (llava.images, QUESTIONS)
    assert again.generate(*asked, keep_ratio=0.1) == model.generate(*asked, keep_ratio=0.1)
    with pytest.raises(UserError, match="no scorer can be read from"):
        GripModel.from_pretrained(str(tmp_path / "vlm"), str(tmp_path / "nothing"))


def test_the_prompt_and_the_positions_are_those_that_the_scorer_was_trained_with(llava, tmp_path):
    save(llava, tmp_path / "vlm")
    template = "<bos> <image> which {question} answer :"
    save_scorer(make_scorer(), load_vlm(str(tmp_path / "vlm"), "compact", template=template), tmp_path / "scorer")
    given = (str(tmp_path / "vlm"), str(tmp_path / "scorer"))
    model = GripModel.from_pretrained(*given, device="cpu")
    assert (model.vlm.template, model.vlm.positions) == (template, "compact")
    model = GripModel.from_pretrained(*given, template=llava.vlm.template, positions="original", device="cpu")
    assert (model.vlm.template, model.vlm.positions) == (llava.vlm.template, "original")


@pytest.mark.parametrize(
    ("given", "said"), [({"dtype": "bf16"}, "such as bfloat16, but got bf16"), ({"device": "cuda:1"}, "but got cuda:1")]
)
def test_names_that_torch_does_not_know_are_one_line(llava, tmp_path, given, said):
    save(llava, tmp_path / "vlm")
    make_scorer().save_pretrained(tmp_path / "scorer")
    with pytest.raises(UserError, match=said):
        GripModel.from_pretrained(str(tmp_path / "vlm"), str(tmp_path / "scorer"), template=llava.vlm.template, **given)


def test_images_may_be_files_or_pictures_of_any_mode(tmp_path):
    gray = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    gray.save(tmp_path / "gray.png")
    expected = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    for given in (gray, tmp_path / "gray.png", str(tmp_path / "gray.png"), expected):
        assert np.array_equal(pixels(given), expected)


@pytest.mark.parametrize("content", [None, b"no image", b"\x89PNG\r\n\x1a\n cut off"])
def test_what_is_no_image_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an image") as error:
        pixels(tmp_path / "image.png")
    assert "\n" not in str(error.value)


def test_too_little_memory_is_one_line(llava, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(llava.vlm, "generate", full)
    with pytest.raises(UserError, match="memory must hold 1 images with their answers, but does not"):
        GripModel(llava.vlm, make_scorer()).generate(llava.images[:1], ["what color ?"], keep=1)


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"got float64 \(8, 8\)"):
        pixels(np.zeros((8, 8)))


def finished_run(folder: Path) -> Path:
    folder.mkdir()
    grpo = {"steps": 200, "prompts_per_step": 16, "group_size": 32, "beta": 0.01, "learning_rate": 0.0005}
    config = {"grpo": grpo, "budgets": {"low": 1, "high": 36, "schedule": "staged"}, "seed": 3}
    environment = {"git_commit": "abc", "packages": {"torch": "2.13.0", "transformers": "5.23.0"}}
    for name, value in {"config": config, "environment": environment, "status": {"state": "finished"}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "metrics.jsonl").write_text('{"step": 0}\n{"step": 200, "accuracy": 0.825}\n')
    return folder


def test_a_card_says_what_the_run_was(tmp_path):
    card = model_card(finished_run(tmp_path / "run"), "llava-hf/llava-1.5-7b-hf", {4: 0.8125, 1: 0.5}, ["pope"])
    card.save(tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert card.data.base_model == "llava-hf/llava-1.5-7b-hf"
    assert card.data.license == "apache-2.0"
    for said in (
        "1 to 36 tokens, staged",
        "| group size | 32 |",
        "| seed | 3 |",
        "82.5 %",
        "| 1 | 50.0 |\n| 4 | 81.2 |",
    ):
        assert said in text, said
    assert "test questions of pope" in text
    assert "Not measured." in str(model_card(tmp_path / "run", "models/embedded", {}, ["pope"]))


def test_a_card_needs_a_finished_run(tmp_path):
    run = finished_run(tmp_path / "run")
    (run / "status.json").write_text('{"state": "running"}')
    with pytest.raises(UserError, match="must be a finished run"):
        model_card(run, "any", {}, [])
