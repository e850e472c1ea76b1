"""Learning curves: the metrics of several runs as one tidy table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

COLUMNS = ("run", "step", "metric", "value")
VALIDATED = ("accuracy", "log_prob", "sampled_accuracy", "sampled_log_prob")
"""What is measured at single budgets, and seldom enough to be kept for each of them."""
COLLAPSE = "collapse_"
"""Begins the metric, of value 1, that has a run's collapse; the cause follows."""


def read_curves(runs: Mapping[str, Path]) -> pd.DataFrame:
    """run, step, metric, value from each run's metrics.jsonl and, if it has collapsed, its collapse.json.

    `runs` names the run folders. Training metrics of single budget ranges (`name@range`) are left out: they are most of
    a run's numbers, and remain in its metrics.jsonl.
    """
    records = []
    for name, folder in runs.items():
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            records += [(name, step, metric, float(value)) for metric, value in row.items() if _kept(metric)]
        if (folder / "collapse.json").exists():
            collapse = json.loads((folder / "collapse.json").read_text())
            records.append((name, collapse["step"], COLLAPSE + collapse["cause"], 1.0))
    return pd.DataFrame(records, columns=list(COLUMNS))


def _kept(metric: str) -> bool:
    name, at, _ = metric.partition("@")
    return not at or name in VALIDATED
