"""The model for lmms-eval, by lmms-eval's own command line and with a benchmark's own scoring."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from grip_core.model import GripModel
from tests import families
from tests.data.test_public import folder_of
from tests.families import Family
from tests.test_model import make_scorer
from tests.vlm.test_load import save

# lmms-eval's own list is of everything that any of its hundreds of tasks and models needs; these are what its command
# line imports.
PACKAGES = (
    "lmms_eval==0.7.3",
    *("loguru", "pytz", "sacrebleu", "portalocker", "lxml", "evaluate", "tenacity"),
    *("pytablewriter", "DataProperty", "mbstrdecoder", "pathvalidate", "tabledata", "tcolorpy", "typepy", "chardet"),
)
KEEP = 0.1


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """lmms-eval in a folder of its own."""
    folder = tmp_path_factory.mktemp("lmms")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"lmms-eval cannot be installed here: {done.stderr[-300:]}")
    return folder


def yes_or_no(family: Family) -> Family:
    """The family with a head that says one or the other."""
    head, tokenizer = family.vlm.model.lm_head.weight, family.vlm.processor.tokenizer
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    direction_D = head[yes].clone()
    head.data.zero_()
    head.data[yes], head.data[no] = direction_D, -direction_D
    return family


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def task(folder: Path, public: str) -> None:
    """POPE's own task, of a folder's data instead of the Hub's."""
    scores = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
    lines = {
        "task": "pope_here",
        "dataset_path": public,
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 1},
        "lmms_eval_specific_kwargs": {"default": {"pre_prompt": "", "post_prompt": ""}},
    }
    text = yaml.safe_dump(lines)
    for name in ("doc_to_visual", "doc_to_text", "process_results"):
        text += f"{name}: !function utils.pope_{name}\n"
    text += "metric_list:\n"
    for score in scores:
        text += (
            f"- metric: pope_{score}\n  aggregation: !function utils.pope_aggregate_{score}\n  higher_is_better: true\n"
        )
    folder.mkdir()
    (folder / "pope_here.yaml").write_text(text)
    (folder / "utils.py").write_text("from lmms_eval.tasks.pope.utils import *\n")


@pytest.mark.slow
def test_lmms_eval_scores_a_pruned_model_with_popes_own_metrics_and_goes_on_after_a_bad_question(packages, tmp_path):
    family = yes_or_no(families.llava())
    save(family, tmp_path / "vlm")
    (tmp_path / "vlm" / "prompt_template.txt").write_text(family.vlm.template)
    model = GripModel(family.vlm, make_scorer())
    model.save_pretrained(tmp_path / "scorer")
    random, question = np.random.RandomState(0), "is there a red circle ?"
    images = [random.randint(256, size=(20, 30, 3)).astype(np.uint8) for _ in range(8)]
    said = model.generate(images, [question] * len(images), keep_ratio=KEEP, max_new_tokens=1)
    assert set(said) == {"yes", "no"}
    answers = ["yes", "no"] * 4
    rows = [
        {"question_id": str(i), "question": question, "answer": answer, "category": "random", "image": png(images[i])}
        for i, answer in enumerate(answers)
    ]
    long = {**rows[1], "question_id": "long", "question": "is there a red circle ? " * 200}  # and its answer is no
    rows.insert(4, long)
    task(tmp_path / "tasks", folder_of("pope", tmp_path / "data", rows))
    given = {"vlm": tmp_path / "vlm", "scorer": tmp_path / "scorer", "keep_ratio": KEEP, "device": "cpu"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lmms_eval", "--model", "grip", "--tasks", "pope_here", "--batch_size", "3"),
            *("--model_args", ",".join(f"{name}={value}" for name, value in given.items())),
            *("--include_path", str(tmp_path / "tasks"), "--output_path", str(tmp_path / "out"), "--log_samples"),
        ],
        env={**os.environ, "PYTHONPATH": f"{packages}:.", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    # Its command line ends in success where it failed too.
    results = list((tmp_path / "out").rglob("*results.json"))
    assert len(results) == 1, done.stderr[-3000:]
    scores = json.loads(results[0].read_text())["results"]["pope_here"]
    right = np.array(said) == np.array(answers)
    assert scores["pope_accuracy,none"] == pytest.approx(right.sum() / len(rows))
    assert scores["pope_recall,none"] == pytest.approx(right[::2].mean())
    (samples,) = (tmp_path / "out").rglob("*samples*.jsonl")
    lines = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda line: line["doc_id"])
    assert [line["filtered_resps"] for line in lines] == [*said[:4], "", *said[4:]]
    assert "question 1 of at most 100 that cannot be used: a prompt must fit into the 512 tokens" in done.stdout
