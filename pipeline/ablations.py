"""Turn the exports of ablations into tables: effects, stability, survival and more, and a verdict on the whole.

All of it goes to artifacts/results/ablations: a table of all ablations each, those of all runs at the pipeline's own
settings, ablations.json with what they are of and what has changed since, and verdict.csv. Without any export the
tables are empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from grip_core.claims.schema import load_claims
from grip_core.claims.stability import Part, judge_stability
from grip_core.config import Params
from grip_core.evaluation.ablation import Ablation
from grip_core.evaluation.ablations import ablation_tables, describe, empty_tables
from grip_core.evaluation.arms import answers_of
from grip_core.evaluation.exports import COLUMNS as ROWS
from grip_core.evaluation.exports import MANIFEST, AblationExport, current_hashes, is_stale, read_ablation
from grip_core.evaluation.names import WARMUP
from grip_core.evaluation.own_settings import (
    GAIN_COLUMNS,
    OWN_COLUMNS,
    RISE_COLUMNS,
    Own,
    gains,
    own_runs,
    own_table,
    pooled,
    rises,
)
from grip_core.files import write_text
from grip_core.places import EVALUATION, EXPORTS, RESULTS
from grip_core.policy.budgets import headline_budgets
from pipeline.stage import run
from pipeline.staleness import changed_settings

ABOUT, VERDICT = "ablations.json", "verdict.csv"
OWN = {"own": OWN_COLUMNS, "rises": RISE_COLUMNS, "gains": GAIN_COLUMNS}
"""The tables of all runs at the pipeline's own settings: own_settings.py says what is in them."""
CLAIM = "claim"
"""The row of the verdict on the whole."""


def read_ablations(folder: Path) -> Iterator[tuple[str, AblationExport]]:
    """Every export in the folder by its name, one after another. Raises UserError if one is damaged."""
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        yield manifest.parent.name, read_ablation(manifest.parent)


def changed(export: AblationExport, params: Params) -> list[str]:
    """What is otherwise than when the ablation was exported: files, data, settings."""
    manifest = export.manifest
    files = is_stale(manifest, current_hashes(manifest, params.data.benchmarks, params.vlm.path))
    return [*files, *changed_settings(manifest["params"], params)]


def together(tables: Sequence[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of several ablations, one below the other."""
    empty = empty_tables()
    parts = {name: [found[name] for found in tables if len(found[name])] for name in empty}
    return {name: pd.concat(part, ignore_index=True) if part else empty[name] for name, part in parts.items()}


def own_tables(
    parts: Sequence[Own], pipeline_steps: int, share: float, tokens: int, confidence: float
) -> dict[str, pd.DataFrame]:
    """OWN: how they train, and what the first sample of them gains over the pipeline's warm-up on the test."""
    samples = pooled(parts, pipeline_steps)
    found = {name: pd.DataFrame(columns=columns) for name, columns in OWN.items()}
    found["own"] = own_table(samples, pipeline_steps, confidence)
    if not samples:
        return found
    rows = pd.read_parquet(EVALUATION / "rows.parquet", columns=list(ROWS), filters=[("method", "==", WARMUP)])
    start = answers_of(rows[rows["k"] < tokens], WARMUP)
    if set(start.names) & set(samples[0].answers.names):
        headline = headline_budgets([int(k) for k in start.k_K], share, tokens)
        found["rises"] = rises(samples[0], start, headline, confidence)
        found["gains"] = gains(samples[0], start)
    return found


def verdict_table(verdict: str, parts: Sequence[Part]) -> pd.DataFrame:
    """name, effect, low, high, bar, n, k and verdict of the claim as a whole, then of its parts."""
    return pd.DataFrame([{"name": CLAIM, "verdict": verdict}, *(asdict(part) for part in parts)])[
        [*Part.__dataclass_fields__]
    ]


def read_verdict(path: Path) -> tuple[str, list[Part]]:
    """What `verdict_table` was made from."""
    rows = pd.read_csv(path, dtype={"k": str}, keep_default_na=False, na_values={"effect": "", "low": "", "high": ""})
    claim, *parts = rows.to_dict("records")
    return claim["verdict"], [Part(**{**part, "bar": float(part["bar"]), "n": int(float(part["n"]))}) for part in parts]


def as_text(table: pd.DataFrame) -> str:
    """As CSV, with zeros for what differs from zero by rounding only."""
    numbers = table.select_dtypes("float")
    return table.assign(**(numbers.round(9) + 0.0)).to_csv(index=False, float_format="%.6g")


def main(params: Params) -> None:
    """Run the stage."""
    tokens = json.loads((RESULTS / "headline.json").read_text())["tokens"]
    share, confidence = params.evaluate.headline_share, params.report.confidence
    tables, about, own = [], {}, []
    for name, export in read_ablations(EXPORTS / "ablations"):
        ablation = Ablation(name, export, tokens, share, confidence)
        tables.append(ablation_tables(ablation))
        about[name] = describe(ablation, changed(export, params))
        if (runs := own_runs(ablation)) is not None:
            own.append(runs)
    whole = together(tables) | own_tables(own, params.grpo.steps, share, tokens, confidence)
    claim = load_claims().stability
    verdict, parts = judge_stability(claim, whole["runs"], whole["rises"], whole["carry"], confidence)
    folder = RESULTS / "ablations"
    for name, table in whole.items():
        write_text(folder / f"{name}.csv", as_text(table))
    write_text(folder / VERDICT, as_text(verdict_table(verdict, parts)))
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    print(f"{len(about)} ablations; {verdict}: {claim.words}")


if __name__ == "__main__":
    run(main)
