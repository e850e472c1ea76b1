"""What an ablation exports beside its answers: learning curves, runs as a whole, and what the seeds agree on.

Shape legend: E examples, N visual tokens.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grip_core.evaluation.exports import AGREEMENT, CURVES, RUNS
from grip_core.statistics.agreement import jaccard
from studies.folder import read_lines

Runs = Mapping[tuple[str, int], Path]
"""The run folder of every arm and seed."""
EVERY_STEP = (
    "reward",
    "reward_std",
    "kl",
    "entropy",
    "dead_share",
    "overlap",
    "grad_norm",
    "learning_rate",
    "scored",
)
AT_EVALUATIONS = ("accuracy", "log_prob")


def tables(runs: Runs, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables by their file names; `rows` are all answers, with the tokens kept, of method (the arm) and seed."""
    lines = {key: read_lines(run / "metrics.jsonl") for key, run in runs.items()}
    return {
        CURVES: curves(lines),
        AGREEMENT: agreement(rows),
        RUNS: pd.DataFrame([_whole(*key, run, lines[key]) for key, run in runs.items()]).astype(
            {"arm": "category", "seed": "int32", "steps": "int32", "collapse_step": "float32", "cause": "category"}
            | {"accuracy": "float32"}
        ),
    }


def curves(lines: Mapping[tuple[str, int], Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """One row a number: of EVERY_STEP, of AT_EVALUATIONS, of accuracy@<k>; in the order of arms, seeds, metrics, steps.

    Equal neighbours are what compresses.
    """
    found = [
        (arm, seed, line["step"], name, value)
        for (arm, seed), rows in lines.items()
        for line in rows
        for name, value in line.items()
        if name in EVERY_STEP or name in AT_EVALUATIONS or (name.startswith("accuracy@") and "/" not in name)
    ]
    table = pd.DataFrame(found, columns=["arm", "seed", "step", "metric", "value"])
    kinds = {"arm": "category", "seed": "int32", "step": "int32", "metric": "category", "value": "float32"}
    return table.sort_values(["arm", "seed", "metric", "step"], kind="stable", ignore_index=True).astype(kinds)


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean Jaccard index over questions of the sets that two seeds of an arm keep, for every two and every k."""
    found = []
    for (arm, k), part in rows.groupby(["method", "k"], observed=True):
        questions = ["benchmark", "example_id"]
        by_seed = {seed: of_seed.sort_values(questions)["kept"] for seed, of_seed in part.groupby("seed")}
        n = 1 + max(int(tokens.max()) for tokens in part["kept"])
        kept_EN = {seed: members(kept, n) for seed, kept in by_seed.items()}
        for one, other in itertools.combinations(sorted(kept_EN), 2):
            found.append((arm, k, one, other, jaccard(kept_EN[one], kept_EN[other]).mean()))
    table = pd.DataFrame(found, columns=["arm", "k", "seed_a", "seed_b", "jaccard"])
    whole = dict.fromkeys(("k", "seed_a", "seed_b"), "int32")
    return table.astype({"arm": "category", "jaccard": "float32"} | whole)


def members(kept: pd.Series, n: int) -> np.ndarray:
    """Sets of tokens, an array a question, as booleans (E, N)."""
    member_EN = np.zeros((len(kept), n), dtype=bool)
    member_EN[np.repeat(np.arange(len(kept)), kept.map(len)), np.concatenate(kept.tolist())] = True
    return member_EN


def _whole(arm: str, seed: int, run: Path, rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """A run as a whole: the steps it took, whether it collapsed, and its last validation accuracy."""
    path = run / "collapse.json"
    collapse = json.loads(path.read_text()) if path.exists() else {"step": math.nan, "cause": ""}
    return {
        "arm": arm,
        "seed": seed,
        "steps": rows[-1]["step"],
        "collapsed": path.exists(),
        "collapse_step": collapse["step"],
        "cause": collapse["cause"],
        "accuracy": next(row["accuracy"] for row in reversed(rows) if "accuracy" in row),
    }
