"""Learning curves: the metrics of several runs as one tidy table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

COLUMNS = ("run", "step", "metric", "value")


def read_curves(runs: Mapping[str, Path]) -> pd.DataFrame:
    """run, step, metric, value from each run's metrics.jsonl; `runs` names the run folders."""
    records = []
    for name, folder in runs.items():
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            records += [(name, step, metric, float(value)) for metric, value in row.items()]
    return pd.DataFrame(records, columns=list(COLUMNS))
