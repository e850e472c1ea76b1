"""A study as one tidy table, with a manifest: the only thing of it that figures read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from grip_core.files import atomic_file, write_text
from studies.failures import PROVENANCE, failure_of
from studies.folder import Study, StudyFolder, read_lines
from studies.storage import load_study

COLUMNS = ["trial", "state", "seed", "step", "budget", "benchmark", "metric", "value"]


def export(folder: StudyFolder, kind: str, target: Path | None = None) -> Path:
    """Write `trials.parquet` or `trials.csv` and `manifest.json` into the folder, by default the study's own; where.

    One row a number: of a trial's seed at a step, a metric, for all budgets and benchmarks or for one (`<metric>@<k>`,
    `<metric>/<benchmark>`). Parameters are columns named by their keys in params.yaml.
    """
    record = folder.read()
    study = load_study(record.definition.name, record.storage)
    target = target or folder.export
    table = tidy(folder, record, study.get_trials(deepcopy=False))
    path = target / f"trials.{kind}"
    with atomic_file(path) as file:
        if kind == "parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False)
    manifest = {
        "study": record.definition.name,
        "table": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": len(table),
        "definition": record.definition.model_dump(),
        "params": record.params.model_dump(),
        "provenance": record.provenance,
        "trials": {str(trial.number): summary(trial) for trial in study.get_trials(deepcopy=False)},
    }
    write_text(target / "manifest.json", json.dumps(manifest, indent=1))
    return path


def tidy(folder: StudyFolder, record: Study, trials: list[FrozenTrial]) -> pd.DataFrame:
    """Every number of every trial's last attempt, one a row."""
    rows = [row for trial in trials for row in _trial_rows(folder, record, trial)]
    keys = sorted(record.definition.searched)
    return pd.DataFrame(rows, columns=[*COLUMNS[:2], *keys, *COLUMNS[2:]])


def summary(trial: FrozenTrial) -> dict[str, Any]:
    """What belongs to the trial as a whole."""
    return {
        "state": trial.state.name,
        "params": trial.params,
        "values": trial.values,
        "reported": {str(step): value for step, value in trial.intermediate_values.items()},
        "provenance": trial.user_attrs.get(PROVENANCE),
        "failure": failure_of(trial),
    }


def split_name(metric: str) -> tuple[str, str | None, str | None]:
    """A metric's own name, its budget and its benchmark, from `name`, `name@budget`, `name/benchmark` or both.

    A budget is a number, "7", or a range of them, "4-7".
    """
    name, _, benchmark = metric.partition("/")
    name, _, budget = name.partition("@")
    return name, budget or None, benchmark or None


def _trial_rows(folder: StudyFolder, record: Study, trial: FrozenTrial) -> list[dict[str, Any]]:
    rows = []
    for seed in record.definition.seeds:
        for line in read_lines(folder.newest_run(trial.number, seed) / "metrics.jsonl"):
            step = line.pop("step")
            for key, value in line.items():
                name, budget, benchmark = split_name(key)
                head = {"trial": trial.number, "state": trial.state.name, **trial.params}
                rows.append(
                    head
                    | {
                        "seed": seed,
                        "step": step,
                        "budget": budget,
                        "benchmark": benchmark,
                        "metric": name,
                        "value": value,
                    }
                )
    return rows
