"""Turn rows of answers into tables with intervals, the headline numbers and the learning curves: artifacts/results."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from grip_core.config import Params
from grip_core.evaluation.curves import read_curves
from grip_core.evaluation.headline import headline, headline_differences
from grip_core.evaluation.tables import accuracy_table, interval_table
from grip_core.evaluation.training import training_summaries
from grip_core.files import write_text
from grip_core.places import EVALUATION, RESULTS, WARMUP, train_run
from pipeline.stage import run


def aggregate(rows: pd.DataFrame, curves: pd.DataFrame, share: float, confidence: float) -> dict[str, str]:
    """Texts of the result files by name."""
    differences = headline_differences(rows, share, confidence)
    numbers = headline(rows, differences, share, confidence) | {"training": training_summaries(curves)}
    frames = {
        "accuracy.csv": accuracy_table(rows),
        "table.csv": interval_table(rows, confidence),
        "differences.csv": differences,
        "curves.csv": curves,
    }
    texts = {name: frame.to_csv(index=False, float_format="%.6g") for name, frame in frames.items()}
    return {**texts, "headline.json": json.dumps(numbers, indent=1) + "\n"}


def write_results(texts: dict[str, str], folder: Path) -> None:
    """Write every result file, each whole or not at all."""
    for name, text in texts.items():
        write_text(folder / name, text)


def main(params: Params) -> None:
    """Run the stage."""
    runs = {"warmup": WARMUP, **{f"seed-{seed}": train_run(seed) for seed in params.grpo.seeds}}
    rows = pd.read_parquet(EVALUATION / "rows.parquet")
    texts = aggregate(rows, read_curves(runs), params.evaluate.headline_share, params.report.confidence)
    write_results(texts, RESULTS)
    print(json.loads(texts["headline.json"])["verdict"])


if __name__ == "__main__":
    run(main)
