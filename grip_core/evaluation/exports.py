"""Answers of scorers that were trained elsewhere, as a study exports them: one table, and what it depends on.

answers.parquet   benchmark, example_id, image_id, method, seed, k, correct: a row an answer
manifest.json     what was trained, the table's hash, and under `hashes` those of all that it was made from

An ablation's has three tables more, hashed under `tables`, and `ablation` and each arm's `levels` in the manifest:

curves.parquet      arm, seed, step, metric, value: of every run's rows of metrics
agreement.parquet   arm, k, seed_a, seed_b, jaccard: of the tokens that two seeds keep, mean over the test questions
runs.parquet        arm, seed, steps, collapsed, collapse_step, cause, accuracy: of a run as a whole
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from grip_core.errors import UserError
from grip_core.files import atomic_file, write_text
from grip_core.places import PREPARED
from grip_core.runs import hash_files

ANSWERS, MANIFEST = "answers.parquet", "manifest.json"
CURVES, AGREEMENT, RUNS = "curves.parquet", "agreement.parquet", "runs.parquet"
COLUMNS = ("benchmark", "example_id", "image_id", "method", "seed", "k", "correct")
PACE = ("steps", "evaluate_every", "checkpoint_every")
"""Keys of `supervised` that a study's arms take from `grpo` instead, so that all have the same."""


@dataclass(frozen=True)
class AblationExport:
    """What an ablation has exported; the columns are in the module's docstring."""

    answers: pd.DataFrame
    """Its `method` is the arm."""
    curves: pd.DataFrame
    agreement: pd.DataFrame
    runs: pd.DataFrame
    manifest: dict[str, Any]


def write_export(
    folder: Path, rows: pd.DataFrame, manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame] | None = None
) -> None:
    """Write COLUMNS of the rows, further `tables` by their file names, and the manifest with the tables' hashes; the
    manifest last, so that it fits."""
    small = {"benchmark": "category", "example_id": "category", "method": "category"}
    whole = {"image_id": "int32", "seed": "int32", "k": "int32"}
    with atomic_file(folder / ANSWERS) as file:
        rows[list(COLUMNS)].astype(small | whole).to_parquet(file, index=False, compression="zstd")
    for name, table in (tables or {}).items():
        with atomic_file(folder / name) as file:
            table.to_parquet(file, index=False, compression="zstd")
    known: dict[str, Any] = {"table": ANSWERS, "sha256": _sha256(folder / ANSWERS), "rows": len(rows)}
    if tables is not None:
        known["tables"] = {name: _sha256(folder / name) for name in tables}
    write_text(folder / MANIFEST, json.dumps({**known, **manifest}, indent=1))


EARLIER: Mapping[str, Mapping[str, Any]] = {
    "data": {"sources": {}, "instruct": None, "max_bad": 0},
    "vlm": {"template": None, "quantization": "none", "device": "cpu", "rows_per_forward": 128, "processes": 1},
    "features": {"max_gigabytes": 100.0},
}
"""What settings meant that an export does not name, for there were none then."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """An export's manifest, with settings of all of today's keys. Raises UserError if there is none."""
    _check_there(folder, [MANIFEST])
    manifest = json.loads((folder / MANIFEST).read_text())
    params = manifest.get("params", {})
    return {**manifest, "params": params | {name: given | params.get(name, {}) for name, given in EARLIER.items()}}


def read_export(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows (COLUMNS) and the manifest.

    Raises UserError if there is no export, or if the table is not the one that the manifest was written for.
    """
    _check_there(folder, [MANIFEST, ANSWERS])
    manifest = read_manifest(folder)
    return _read_table(folder / ANSWERS, manifest["sha256"]), manifest


def read_ablation(folder: Path) -> AblationExport:
    """An ablation's tables and manifest.

    Raises UserError if there is no export, if it is not one of an ablation, or if a table is not the manifest's.
    """
    answers, manifest = read_export(folder)
    if "ablation" not in manifest:
        raise UserError(f"{folder} holds the export of a study that is no ablation; name the folder of one")
    _check_there(folder, list(manifest["tables"]))
    tables = {name: _read_table(folder / name, sha256) for name, sha256 in manifest["tables"].items()}
    return AblationExport(answers, tables[CURVES], tables[AGREEMENT], tables[RUNS], manifest)


def _check_there(folder: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise UserError(f"{folder} holds no export, for there is no {missing[0]}; restore it from git")


def _read_table(path: Path, sha256: str) -> pd.DataFrame:
    found = _sha256(path)
    if found != sha256:
        raise UserError(
            f"{path} must have the sha256 of its manifest, {sha256[:12]}, but has {found[:12]}; restore both from git, "
            "or export the study again"
        )
    return pd.read_parquet(path)


def is_stale(manifest: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """What the export was made from and has changed since: names whose `current` hash is gone or another one."""
    return [name for name, value in manifest["hashes"].items() if current.get(name) != value]


def current_hashes(manifest: Mapping[str, Any], benchmarks: Sequence[str], vlm: str) -> dict[str, str]:
    """Today's hashes of what the manifest names, relative to the repository's root; what is gone has none."""
    files = [Path(name) for name in manifest["hashes"] if name.endswith(".py")]
    return {**input_hashes(benchmarks, vlm), **{str(path): code_hash(path) for path in files if path.exists()}}


def code_hash(path: Path) -> str:
    """SHA-256 of what a module does: its syntax tree without docstrings, so that neither words nor layout count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [item for item in node.body if not _is_text(item)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, of a module, class, function or field."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def input_hashes(benchmarks: Sequence[str], vlm: str) -> dict[str, str]:
    """Hashes of the benchmarks' prepared data and the VLM at that path, as they lie here now.

    Of the warm-up, which is made from them, settings and code count: another kind of processor rounds otherwise.
    """
    from grip_core.vlm.load import fingerprint  # imports torch, which whoever only reads an export need not wait for

    folders = [PREPARED / name for name in benchmarks]
    data = {str(folder): hash_files(_files(folder)) for folder in folders}
    return {**data, "vlm": fingerprint(vlm)}


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
