"""Whether an export's numbers are what today's code makes of its arms: if so, it is stale no longer.

A change of the code makes an export stale, though it need not change a number. To train all runs again may take hours;
a part of them tells it at once, for numbers are compared bit for bit. Every arm's first seed is brought to its first
rung, and its rows of metrics have to be the export's; the first arm, and every arm of an export that has no curves, is
brought to its end, and its test answers have to be the export's too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

import grip_core
from grip_core.config import Params, parse
from grip_core.errors import UserError
from grip_core.evaluation.exports import MANIFEST, input_hashes, read_ablation, read_export
from grip_core.files import write_text
from studies.ablation_tables import curves as curves_of
from studies.answers import module_hashes
from studies.comparison import ROWS
from studies.definition import Definition
from studies.folder import read_lines
from studies.provenance import at_launch, digest
from studies.space import trial_params
from studies.trainable import load_trainable, stages

CODE = Path(grip_core.__file__).parents[1]
VERIFIED = "verified"
"""What the manifest says of it: by which code, of which seed, and to which step of every arm."""


@dataclass(frozen=True)
class Export:
    """What an export says of its runs."""

    answers: pd.DataFrame
    curves: pd.DataFrame | None
    """Of an ablation."""
    manifest: dict[str, Any]


def verify(folder: Path, root: Path) -> dict[str, int]:
    """Compare, write today's hashes into the manifest, and give the step to which each arm was trained.

    What is trained lies below `root`, by the hash of the code: an interrupted call is gone on with.

    Raises UserError at the first number that is another one, or if the data or the VLM are others; the export is then
    as it was.
    """
    export = _read(folder)
    manifest = export.manifest
    definition = parse(Definition, manifest["definition"], str(folder / MANIFEST))
    base = parse(Params, manifest["params"], str(folder / MANIFEST))
    kind = load_trainable(definition.trainable)
    kind.check_inputs(base)
    inputs = {name: value for name, value in manifest["hashes"].items() if not name.endswith(".py")}
    now = input_hashes(base.data.benchmarks, base.vlm.path)
    if other := [name for name, value in inputs.items() if now.get(name) != value]:
        raise UserError(f"{folder} is of other data ({', '.join(other)}); run {definition.name} again, and export it")
    code = module_hashes(CODE, definition.trainable.split(":")[0])
    scratch, seed = root / f"{definition.name}.verify" / digest(code)[:16], definition.seeds[0]
    trainable, steps = kind(base), {}
    for place, (arm, item) in enumerate(tqdm(manifest["arms"].items(), desc=definition.name, unit="arm")):
        params = trial_params(definition, base, item["settings"])
        whole = export.curves is None or place == 0
        steps[arm] = params.grpo.steps if whole else stages(definition, params)[0].step
        run = scratch / str(place) / f"seed-{seed}"
        trainable.advance(params, seed, steps[arm], run, lambda: False)
        if found := difference(export, arm, seed, run):
            raise UserError(
                f"{arm}, seed {seed}: {found}; {folder} stays stale. If the code should not have changed this number, "
                "another kind of processor or number of threads may have: verify it where the study ran, or run the "
                "study again"
            )
    known = {"seed": seed, "steps": steps, **at_launch(digest(code)[:16])}
    fresh = {**manifest, "hashes": {**inputs, **code}, VERIFIED: [*manifest.get(VERIFIED, []), known]}
    write_text(folder / MANIFEST, json.dumps(fresh, indent=1))
    return steps


def difference(export: Export, arm: str, seed: int, run: Path) -> str | None:
    """The first number of a run that is not the export's, whose runs may be longer; None if there is none."""
    if export.curves is not None:
        now = curves_of({(arm, seed): read_lines(run / "metrics.jsonl")})
        was = _of(export.curves, "arm", arm, seed)
        if found := first_difference(was[was["step"] <= now["step"].max()], now, ["step", "metric"], "value"):
            return found
    if not (run / ROWS).exists():
        return None
    now = pd.read_parquet(run / ROWS)
    return first_difference(_of(export.answers, "method", arm, seed), now, ["k", "benchmark", "example_id"], "correct")


def first_difference(was: pd.DataFrame, now: pd.DataFrame, keys: Sequence[str], value: str) -> str | None:
    """Where and how two tables differ first, in the order of their keys; a row that one of them lacks counts too."""
    plain = [table[[*keys, value]].astype(dict.fromkeys(keys[1:], "str")) for table in (was, now)]
    both = plain[0].merge(plain[1], on=list(keys), how="outer", suffixes=("_was", "_now")).sort_values(list(keys))
    one, other = both[f"{value}_was"], both[f"{value}_now"]
    found = both[(one != other) & ~(one.isna() & other.isna())].to_dict("records")
    if not found:
        return None
    place = ", ".join(f"{key}={found[0][key]}" for key in keys)
    return f"at {place}, {value} was {found[0][f'{value}_was']} and is {found[0][f'{value}_now']}"


def _of(table: pd.DataFrame, column: str, arm: str, seed: int) -> pd.DataFrame:
    return table[(table[column] == arm) & (table["seed"] == seed)]


def _read(folder: Path) -> Export:
    answers, manifest = read_export(folder)
    return Export(answers, read_ablation(folder).curves if "ablation" in manifest else None, manifest)
