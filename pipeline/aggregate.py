"""Turn rows of answers into tables with intervals, verdicts on the paper's claims, and headline numbers.

All of it, and the learning curves, goes to artifacts/results. Beside the pipeline's own rows enter those of scorers
that were trained otherwise, as a study has exported them, where they answer the same questions from the same model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grip_core.claims.costs import priced_like_grip
from grip_core.claims.judge import judge
from grip_core.claims.results import Result, comparison_table, ledger_table
from grip_core.claims.schema import Claims, Setting, load_claims
from grip_core.claims.words import sentence
from grip_core.config import Params
from grip_core.cost.table import answer_seconds
from grip_core.evaluation.curves import read_curves
from grip_core.evaluation.exports import MANIFEST, current_hashes, is_stale, read_export
from grip_core.evaluation.headline import headline, headline_differences
from grip_core.evaluation.names import GRIP
from grip_core.evaluation.summary import profile_table, summary_table
from grip_core.evaluation.tables import accuracy_table, interval_table
from grip_core.evaluation.training import training_summaries
from grip_core.files import write_text
from grip_core.places import EVALUATION, EXPORTS, PREPARED, RESULTS, TIMING, WARMUP, train_run
from pipeline.stage import run
from pipeline.staleness import changed_settings

ARMS = EXPORTS / "training_principles"


@dataclass(frozen=True)
class Arms:
    """Answers of scorers that a study has trained. `stale` names what has changed since."""

    rows: pd.DataFrame
    stale: Sequence[str]


NO_ARMS = Arms(pd.DataFrame(), [])


def read_arms(folder: Path, params: Params) -> Arms:
    """An export's rows with the column `model`. Raises UserError if it is damaged.

    No rows if there is no export, or if the questions or the VLM are not those that it was made from.
    """
    if not (folder / MANIFEST).exists():
        return NO_ARMS
    rows, manifest = read_export(folder)
    changed = is_stale(manifest, current_hashes(manifest, params.data.benchmarks, params.vlm.path))
    if any(name == "vlm" or name.startswith(str(PREPARED)) for name in changed):
        return NO_ARMS
    return Arms(
        rows.assign(model=manifest["params"]["vlm"]["path"]),
        [*changed, *changed_settings(manifest["params"], params)],
    )


def asked(rows: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Those of the arms' answers that are to questions of `rows` and at GRIP's budgets: an export may cover more."""
    if arms.empty:
        return arms
    key = ["benchmark", "example_id"]
    same = arms.merge(rows[key].drop_duplicates(), on=key)
    return same[same["k"].isin(set(rows.loc[rows["method"] == GRIP, "k"]))]


def comparable(rows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Those of the arms' answers that can stand in one table with `rows`.

    None of a stale export or of another model; else those of arms that answer all of GRIP's cells.
    """
    same = asked(rows, arms.rows)
    if same.empty or arms.stale or set(same["model"]) != set(rows["model"]):
        return same.iloc[:0]
    grip = rows[rows["method"] == GRIP]
    cells = len(grip) // grip["seed"].nunique()
    counts = same.groupby(["method", "seed"], observed=True).size()
    whole = counts.groupby("method", observed=True).min() == cells
    return same[same["method"].isin(whole.index[whole])]


def read_costs(folder: Path, shape: str, batch: int, arms: Sequence[str]) -> pd.DataFrame | None:
    """method, k, flops and seconds an answer (NaN where not timed) of a model's shape; None if it was not measured."""
    path = folder / f"{shape}-flops.csv"
    if not path.exists():
        return None
    seconds = answer_seconds(pd.read_csv(folder / f"{shape}.csv"), batch)
    return priced_like_grip(pd.read_csv(path).merge(seconds, on=["method", "k"], how="outer"), arms)


def judge_all(
    claims: Claims, rows: pd.DataFrame, arms: Arms, timing: Path, batch: int, confidence: float
) -> list[Result]:
    """Every claim in every setting; `batch` is that of the times."""

    def judged(setting: Setting) -> list[Result]:
        costs = read_costs(timing, setting.shape, batch, claims.arms)
        everything = pd.concat([rows, asked(rows, arms.rows)], ignore_index=True)
        return judge(claims, everything, costs, setting, confidence, arms.stale)

    return [result for setting in claims.settings for result in judged(setting)]


def aggregate(
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    results: Sequence[Result],
    costs: pd.DataFrame | None,
    share: float,
    confidence: float,
) -> dict[str, str]:
    """Texts of the result files by name."""
    differences = headline_differences(rows, share, confidence)
    numbers = headline(rows, differences, share, confidence) | {"training": training_summaries(curves)}
    budgets = [int(k) for k in numbers["budgets"].split(", ")]
    frames = {
        "accuracy.csv": accuracy_table(rows),
        "table.csv": interval_table(rows, confidence),
        "differences.csv": differences,
        "summary.csv": summary_table(rows, costs, budgets, confidence),
        "profiles.csv": profile_table(rows, budgets),
        "claims.csv": ledger_table(results).assign(sentence=[sentence(result) for result in results]),
        "comparisons.csv": comparison_table(results),
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
    rows = pd.read_parquet(EVALUATION / "rows.parquet").assign(model=params.vlm.path)
    arms = read_arms(ARMS, params)
    confidence, batch = params.report.confidence, min(params.timing.batch_sizes)
    claims = load_claims()
    results = judge_all(claims, rows, arms, TIMING, batch, confidence)
    costs = read_costs(TIMING, claims.shape_of(params.vlm.path), batch, claims.arms)
    texts = aggregate(
        pd.concat([rows, comparable(rows, arms)], ignore_index=True),
        read_curves(runs),
        results,
        costs,
        params.evaluate.headline_share,
        confidence,
    )
    write_results(texts, RESULTS)
    print(json.loads(texts["headline.json"])["verdict"])
    print(*(sentence(result) for result in results), sep="\n")


if __name__ == "__main__":
    run(main)
