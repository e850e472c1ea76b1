"""Run every method on the test questions of every benchmark: artifacts/evaluation/rows.parquet, a row an answer.

Finished parts are kept in artifacts/evaluation/parts, so that a stopped evaluation goes on and only what is new is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from grip_core.baselines.registry import create
from grip_core.config import EvaluateConfig, Params
from grip_core.evaluation.evaluate import REFERENCES, Method
from grip_core.evaluation.names import GRIP, WARMUP
from grip_core.evaluation.parts import evaluate_in_parts
from grip_core.evaluation.policy import PolicySelector
from grip_core.files import atomic_file
from grip_core.places import EVALUATION, FEATURES, train_run
from grip_core.places import WARMUP as WARMUP_RUN
from grip_core.rl.inputs import load_scorer
from grip_core.runs import code_fingerprint, hash_files
from grip_core.vlm.features import load_store
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import configured_vlm
from pipeline.stage import run

RANDOM = "random"
SCORERS = "scorers"
"""In the table's metadata: of each run's scorer that was evaluated, by its folder's name, the hash."""


def baseline_methods(config: EvaluateConfig, vlm: FrozenVLM) -> list[Method]:
    """The baselines of the grid; the random one once for each of its seeds."""
    return [
        Method(name, seed, create(name, vlm, seed))
        for name in config.baselines
        for seed in (config.random_seeds if name == RANDOM else [0])
    ]


def scorer_method(name: str, seed: int, folder: Path) -> Method:
    """The scorer of a finished run."""
    scorer = load_scorer(folder)
    return Method(name, seed, PolicySelector(scorer), hash_files((folder / "scorer").iterdir()))


def evaluate_all(
    config: EvaluateConfig,
    vlm: FrozenVLM,
    scorers: Sequence[Method],
    features: Path,
    benchmarks: Sequence[str],
    parts: Path,
) -> pd.DataFrame:
    """Rows of every method on every benchmark."""
    store = load_store(features, benchmarks, "test")
    inputs = sorted(path for name in benchmarks for path in (features / name / "test").iterdir())
    # The caches hold the full model's log-probabilities, so they stand for the VLM's weights as well.
    return evaluate_in_parts(
        vlm,
        store,
        [*scorers, *baseline_methods(config, vlm), *REFERENCES],
        config.budgets,
        config.batch_size,
        parts,
        f"{code_fingerprint()}/{vlm.positions}/{hash_files(inputs)}",
    )


def main(params: Params) -> None:
    """Run the stage."""
    vlm = configured_vlm(params.vlm)
    trained = {train_run(seed).name: scorer_method(GRIP, seed, train_run(seed)) for seed in params.grpo.seeds}
    scorers = [*trained.values(), scorer_method(WARMUP, 0, WARMUP_RUN)]
    rows = evaluate_all(params.evaluate, vlm, scorers, FEATURES, params.data.benchmarks, EVALUATION / "parts")
    rows.attrs = {SCORERS: {name: method.version for name, method in trained.items()}}
    with atomic_file(EVALUATION / "rows.parquet") as file:
        rows.to_parquet(file, index=False)


if __name__ == "__main__":
    run(main)
