"""All stages after the frozen one, small, one after the other in an empty folder, on the model in the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TRAINING = (["prepare"], ["features"], ["warmup"], ["train", "--seed", "0"])
STAGES = (*TRAINING, ["evaluate"], ["timing"], ["aggregate"], ["ablations"], ["figures"])
SMALL = {
    "data": {
        "images": {"train": 8, "validation": 3, "test": 3},
        "questions_per_image": {"train": 4, "validation": 2, "test": 2},
    },
    "vlm": {"path": str(ROOT / "models" / "embedded")},
    "features": {"images": {"train": 8, "validation": 3, "test": 3}, "questions_per_image": 2},
    "warmup": {"steps": 3, "prompts_per_step": 4},
    "grpo": {
        "seeds": [0],
        "steps": 4,
        "prompts_per_step": 4,
        "group_size": 4,
        "validation_questions": 4,
        "evaluate_every": 2,
        "checkpoint_every": 2,
    },
    "evaluate": {"budgets": [1, 7, 144], "baselines": ["random", "fastv"], "random_seeds": [0, 1]},
    "timing": {
        "budgets": [1, 7],
        "methods": ["full", "grip", "fastv_inside"],
        "batch_sizes": [1, 2],
        "repetitions": 3,
        "warmups": 1,
    },
    "report": {"examples": 2, "example_budget": 7},
}


def merged(base: dict, changes: dict) -> dict:
    deep = {key for key, new in changes.items() if isinstance(new, dict) and base[key]}
    return base | {key: merged(base[key], new) if key in deep else new for key, new in changes.items()}


def run(stage: list[str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pipeline.{stage[0]}", *stage[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{stage}: {done.stderr[-2000:]}"


@pytest.mark.slow
def test_the_pipeline_ends_in_a_report_and_its_second_run_changes_nothing(tmp_path):
    params = merged(yaml.safe_load((ROOT / "params.yaml").read_text()), SMALL)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "claims.yaml", tmp_path)
    for stage in STAGES:
        run(stage, tmp_path)
    report = (tmp_path / "report" / "index.html").read_text()
    headline = json.loads((tmp_path / "artifacts" / "results" / "headline.json").read_text())
    assert headline["verdict"].split(":")[0] in report
    assert "No ablation has been run" in (tmp_path / "report" / "stability.html").read_text()
    assert set(headline["accuracy"]) == {"grip", "warmup", "random", "fastv", "full", "no_image"}
    scorer = tmp_path / "artifacts" / "train" / "seed-0" / "scorer" / "model.safetensors"
    written = scorer.stat().st_mtime_ns
    for stage in STAGES[1:-1]:
        run(stage, tmp_path)
    assert scorer.stat().st_mtime_ns == written
    assert json.loads((tmp_path / "artifacts" / "results" / "headline.json").read_text()) == headline
