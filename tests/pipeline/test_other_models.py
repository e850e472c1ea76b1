"""The same stages on another family, whose images have different numbers of tokens, trained on instructions and tested
on a public benchmark, all from folders."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from grip_core.data.public import WORD
from grip_core.model import GripModel
from tests import families
from tests.data.test_public import folder_of
from tests.families import QUESTIONS, Family
from tests.pipeline.test_end_to_end import ROOT, SMALL, STAGES, merged, run
from tests.test_model import make_scorer
from tests.vlm.test_load import save

IMAGES, TESTED = 24, 8


def asked(family: Family) -> Iterator[tuple[bytes, str, str]]:
    """Images, questions, and what the model itself says to them, so that there is something to learn. Without end:
    what it says in bytes that are no text is left out, for no answer in a file could be that."""
    model, random = GripModel(family.vlm, make_scorer()), np.random.RandomState(0)
    for number in count():
        height, width = random.choice([40, 64, 90], 2)
        buffer = io.BytesIO()
        Image.fromarray(random.randint(256, size=(height, width, 3)).astype(np.uint8)).save(buffer, "PNG")
        question = f"{QUESTIONS[number % len(QUESTIONS)]}\n{WORD}"
        (answer,) = model.generate([Image.open(buffer)], [question], keep_ratio=1.0, max_new_tokens=1)
        if answer.isascii() and answer.isalnum():
            yield buffer.getvalue(), question, answer


def instructions(folder: Path, items: Sequence[tuple[bytes, str, str]]) -> dict[str, str]:
    """LLaVA's format in a folder; what params.yaml says of it."""
    (folder / "images").mkdir(parents=True)
    listed = []
    for number, (image, question, answer) in enumerate(items):
        (folder / "images" / f"{number}.png").write_bytes(image)
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        listed.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (folder / "instructions.json").write_text(json.dumps(listed))
    return {"json_file": str(folder / "instructions.json"), "images": str(folder / "images")}


@pytest.mark.slow
def test_the_pipeline_runs_on_a_model_of_another_family(tmp_path):
    family = families.llava_next()
    save(family, tmp_path / "model")
    (tmp_path / "model" / "prompt_template.txt").write_text(family.vlm.template)
    items = list(islice(asked(family), IMAGES))
    rows = [
        {"image": image, "question": question.removesuffix(f"\n{WORD}"), "question_type": "any", "answer": [answer]}
        for image, question, answer in items[:TESTED]
    ]
    changes = {
        "data": {
            "benchmarks": ["ocrbench"],
            "sources": {"ocrbench": folder_of("ocrbench", tmp_path / "public", rows)},
            "instruct": instructions(tmp_path / "data", items),
            "images": {"train": 16, "validation": 1, "test": TESTED},
            "questions_per_image": {"train": 1, "validation": 1, "test": 1},
        },
        "vlm": {"path": str(tmp_path / "model")},
        "features": {
            "images": {"train": 16, "validation": 1, "test": TESTED},
            "questions_per_image": 1,
            "batch_size": 4,
        },
        "budgets": {"high": 8},
        "grpo": {"validation_questions": 1},
        "evaluate": {"budgets": [1, 4, 7], "baselines": ["random", "divprune", "fastv_inside"]},
    }
    params = merged(merged(yaml.safe_load((ROOT / "params.yaml").read_text()), SMALL), changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "claims.yaml").write_text((ROOT / "claims.yaml").read_text())
    for stage in STAGES:
        run(stage, tmp_path)
    headline = json.loads((tmp_path / "artifacts" / "results" / "headline.json").read_text())
    assert set(headline["accuracy"]) == {"grip", "warmup", "random", "divprune", "fastv_inside", "full", "no_image"}
    assert (tmp_path / "report" / "index.html").exists()
    # What is published is what was trained, whatever the settings say by now.
    others = {"vlm": {"path": "any/other", "positions": "compact"}, "data": {"benchmarks": ["ocrbench", "pope"]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(merged(params, others)))
    run(["publish", "--to", "published"], tmp_path)
    trained_with = json.loads((tmp_path / "published" / "config.json").read_text())["vlm"]
    assert (trained_with["path"], trained_with["positions"]) == (str(tmp_path / "model"), "original")
    assert "{question}" in trained_with["template"]
    model = GripModel.from_pretrained(str(tmp_path / "model"), str(tmp_path / "published"), device="cpu")
    assert len(model.generate(family.images, QUESTIONS, keep_ratio=0.2, max_new_tokens=3)) == 3
    assert "test questions of ocrbench, mean" in (tmp_path / "published" / "README.md").read_text()

    # Trained again and not evaluated: the old numbers are not the new scorer's.
    own = tmp_path / "artifacts" / "train" / "seed-0" / "scorer" / "config.json"
    own.write_text(own.read_text() + "\n")
    run(["publish", "--to", "again"], tmp_path)
    assert "Not measured." in (tmp_path / "again" / "README.md").read_text()
