"""An evaluation that can be stopped and goes on: finished parts are files, and one with the right key is not redone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from grip_core.evaluation.evaluate import Method, evaluate
from grip_core.files import atomic_file
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import FrozenVLM

KEY = "key"


def evaluate_in_parts(
    vlm: FrozenVLM,
    store: FeatureStore,
    methods: Sequence[Method],
    budgets: Sequence[int],
    batch_size: int,
    folder: Path,
    fingerprint: str,
    progress: bool = True,
) -> pd.DataFrame:
    """`evaluate` one benchmark after the other, a part for each (benchmark, method, seed) in `folder`.

    `fingerprint` stands for what all methods share: the code, the VLM, the features. A part is read back instead of
    computed if it was written under the same fingerprint, method version and budgets.
    """
    frames: list[pd.DataFrame] = []
    for benchmark in store.table["benchmark"].unique():
        index = np.flatnonzero(store.table["benchmark"] == benchmark)
        paths = {method: folder / f"{benchmark}-{method.name}-{method.seed}.parquet" for method in methods}
        keys = {method: _key(fingerprint, method, budgets) for method in methods}
        found = {method: read_part(paths[method], keys[method]) for method in methods}
        parts = {method: part for method, part in found.items() if part is not None}
        pending = [method for method in methods if method not in parts]
        if pending:
            rows = evaluate(vlm, store.subset(index), pending, budgets, batch_size, progress)
            for method in pending:
                parts[method] = rows[(rows["method"] == method.name) & (rows["seed"] == method.seed)]
                write_part(paths[method], parts[method], keys[method])
        frames += [parts[method] for method in methods]
    return pd.concat(frames, ignore_index=True)


def read_part(path: Path, key: str) -> pd.DataFrame | None:
    """The rows of a part; None if there is none, or only one that was written under another key."""
    rows = pd.read_parquet(path) if path.exists() else None
    return rows if rows is not None and rows.attrs.get(KEY) == key else None


def write_part(path: Path, rows: pd.DataFrame, key: str) -> None:
    """Write rows and, in the same file's metadata, their key: whole or not at all."""
    rows = rows.reset_index(drop=True)
    rows.attrs = {KEY: key}
    with atomic_file(path) as file:
        rows.to_parquet(file, index=False)


def _key(fingerprint: str, method: Method, budgets: Sequence[int]) -> str:
    text = repr((fingerprint, method.name, method.seed, method.version, list(budgets)))
    return hashlib.sha256(text.encode()).hexdigest()
