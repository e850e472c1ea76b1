"""Where the pipeline's outputs lie, relative to the repository's root."""

from __future__ import annotations

from pathlib import Path

PREPARED = Path("data/prepared")
VLM = Path("models/embedded")
PRETRAIN = Path("artifacts/pretrain")
FEATURES = Path("artifacts/features")
WARMUP = Path("artifacts/warmup")
TRAIN = Path("artifacts/train")
EVALUATION = Path("artifacts/evaluation")
TIMING = Path("artifacts/timing")
EXPORTS = Path("artifacts/exports")
RESULTS = Path("artifacts/results")
REPORT = Path("report")


def train_run(seed: int) -> Path:
    """The run folder of one training seed."""
    return TRAIN / f"seed-{seed}"
