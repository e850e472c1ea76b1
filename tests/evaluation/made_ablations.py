"""Exports of ablations, made up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grip_core.claims.schema import load_claims
from grip_core.config import load
from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablations import ablation_tables
from grip_core.evaluation.exports import AGREEMENT, CURVES, RUNS, read_ablation, write_export
from grip_core.seeds import numpy_random

BUDGETS, TOKENS, SHARE, CONFIDENCE = (1, 2, 4, 16), 16, 0.25, 0.95
HEADLINE = [1, 2, 4]
IMAGES, QUESTIONS, STEPS, SCORED = 40, 2, 120, 8
EVALUATIONS = (0, 30, 60, 90, 120)
CLAIM = load_claims(Path(__file__).parents[2] / "claims.yaml").stability
RATE = "grpo.learning_rate"
ROWS = ["benchmark", "example_id", "image_id", "method", "seed", "k", "correct"]


@dataclass(frozen=True)
class Made:
    """An arm of a made-up export."""

    levels: Mapping[str, str]
    test: float | Mapping[int, float] = 0.6
    """Accuracy, or by budget."""
    validation: float = 0.6
    settings: Mapping[str, Any] = ()  # type: ignore[assignment]
    rate: float | None = None
    collapsed: int = 0
    """Of its runs."""
    seconds: float = 100.0
    scored: int = SCORED
    """Selections a step."""


def made_export(
    folder: Path,
    arms: Mapping[str, Made],
    seeds: int = 4,
    start: float = 0.4,
    own: Mapping[str, Any] | None = None,
    first: int = 0,
) -> Path:
    """An export of these arms, the baseline being the first, and of so many seeds from `first` on."""
    generator = numpy_random(0, folder.name)
    rows, curves, runs, agreement = [], [], [], []
    for arm, made in arms.items():
        for index in range(seeds):
            seed = first + index
            accuracy = made.test if isinstance(made.test, Mapping) else dict.fromkeys(BUDGETS, made.test)
            shift = 0.01 * (index - (seeds - 1) / 2)
            rows += _answers(generator, arm, seed, {k: share + shift for k, share in accuracy.items()})
            collapsed = index < made.collapsed
            end = STEPS // 2 if collapsed else STEPS
            curves += _curves(arm, seed, start, made.validation + shift, end, made.scored)
            at, cause = (float(end), "kl") if collapsed else (np.nan, "")
            runs.append((arm, seed, end, collapsed, at, cause, made.validation + shift))
        pairs = [(first + one, first + other) for one in range(seeds) for other in range(one)]
        agreement += [(arm, k, other, one, 0.5) for k in BUDGETS for one, other in pairs]
    params = json.loads(json.dumps(load(Path(__file__).parents[2] / "params.yaml").model_dump()))
    factors: dict[str, list[str]] = {}
    for made in arms.values():
        for factor, level in made.levels.items():
            factors.setdefault(factor, [])
            factors[factor] += [level] if level not in factors[factor] else []
    manifest = {
        "params": params,
        "hashes": {"vlm": "1"},
        "definition": {"params": dict(own or {}), "compute": {"selections": SCORED * STEPS}},
        "arms": {
            arm: {
                "settings": dict(made.settings),
                "levels": dict(made.levels),
                "learning_rate": made.rate,
                "provenance": {"seconds": made.seconds},
            }
            for arm, made in arms.items()
        },
        "ablation": {"factors": factors, "baseline": "baseline", "design": "grid", "missing": []},
    }
    tables = {
        CURVES: pd.DataFrame(curves, columns=["arm", "seed", "step", "metric", "value"]).astype({"arm": "category"}),
        AGREEMENT: pd.DataFrame(agreement, columns=["arm", "k", "seed_a", "seed_b", "jaccard"]),
        RUNS: pd.DataFrame(
            runs, columns=["arm", "seed", "steps", "collapsed", "collapse_step", "cause", "accuracy"]
        ).astype({"arm": "category", "cause": "category"}),
    }
    write_export(folder, pd.DataFrame(rows, columns=ROWS), manifest, tables)
    return folder


def made_warmup(accuracy: float) -> pd.DataFrame:
    """Rows of the pipeline's warm-up, with every token too."""
    rows = _answers(numpy_random(0, "warm-up"), "warmup", 0, dict.fromkeys((*BUDGETS, TOKENS), accuracy))
    return pd.DataFrame(rows, columns=ROWS).drop_duplicates(["example_id", "k"])


def _answers(generator: np.random.RandomState, arm: str, seed: int, accuracy: Mapping[int, float]) -> list[tuple]:
    return [
        (benchmark, f"{benchmark}-{i}", i // QUESTIONS, arm, seed, k, correct)
        for k, share in accuracy.items()
        for benchmark in ("one", "two")
        for i, correct in enumerate(generator.permutation(IMAGES * QUESTIONS) < round(share * IMAGES * QUESTIONS))
    ]


def _curves(arm: str, seed: int, start: float, end: float, steps: int, scored: int) -> list[tuple]:
    found = []
    for step in range(steps + 1):
        done = step / STEPS
        if step in EVALUATIONS:
            value = start + (end - start) * done
            found += [(arm, seed, step, metric, value) for metric in ("accuracy", "accuracy@1", "accuracy@4")]
            found.append((arm, seed, step, "log_prob", value - 1))
        if step:
            values = {"reward": done, "kl": 0.1 * done, "entropy": 1 - 0.5 * done, "dead_share": 0.2, "scored": scored}
            found += [(arm, seed, step, metric, value) for metric, value in values.items()]
    return found


def ablation_of(folder: Path) -> Ablation:
    return Ablation(folder.name, read_ablation(folder), TOKENS, SHARE, CONFIDENCE)


GRID = {
    "baseline": Made({"size": "8", "beta": "0.1"}),
    "size=32": Made({"size": "32", "beta": "0.1"}, 0.8, settings={"grpo.group_size": 8}, seconds=175.0),
    "beta=0": Made({"size": "8", "beta": "0"}, 0.3, settings={"grpo.beta": 0.0}, collapsed=3),
    "size=32, beta=0": Made(
        {"size": "32", "beta": "0"},
        0.61,
        settings={"grpo.group_size": 8, "grpo.beta": 0.0},
        scored=SCORED * 3 // 2,
    ),
}
SCHEDULES = {
    "baseline": Made({"schedule": "log_uniform"}),
    "schedule=only_2": Made(
        {"schedule": "only_2"},
        {1: 0.4, 2: 0.6, 4: 0.4, 16: 0.4},
        settings={"budgets.schedule": "constant", "budgets.constant": 2},
    ),
}
RATES = {
    "baseline": Made({"scaling": "group"}, validation=0.6),
    "baseline @ lr=0.001": Made({"scaling": "group"}, 0.7, 0.7, {RATE: 0.001}, 0.001),
    "scaling=none": Made({"scaling": "none"}, 0.9, 0.5, {"grpo.scale_rewards": "none"}),
    "scaling=none @ lr=0.001": Made({"scaling": "none"}, 0.65, 0.6, {"grpo.scale_rewards": "none", RATE: 0.001}, 0.001),
    "scaling=alone": Made({"scaling": "alone"}, 0.65, settings={"grpo.beta": 0.1}),
}


def write_exports(root: Path) -> Path:
    for name, arms in {"grid": GRID, "schedules": SCHEDULES, "rates": RATES}.items():
        made_export(root / name, arms)
    return root


def read_made(exports: Path) -> dict[str, tuple[Ablation, dict[str, pd.DataFrame]]]:
    """Each ablation with its tables."""
    found = {name: ablation_of(exports / name) for name in ("grid", "schedules", "rates")}
    return {name: (ablation, ablation_tables(ablation)) for name, ablation in found.items()}
