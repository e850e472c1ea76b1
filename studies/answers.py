"""The test answers of a study of arms, as one small table to commit; grip_core/evaluation/exports.py reads it."""

from __future__ import annotations

import json
from collections.abc import Collection
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from grip_core.errors import UserError
from grip_core.evaluation.exports import code_hash, write_export
from studies import ablation_tables
from studies.ablation import BASELINE, AblationConfig, Arm, Plan, plan
from studies.comparison import ROWS, cost
from studies.definition import ARM
from studies.export import summary
from studies.folder import Study, StudyFolder
from studies.lease import read_lease
from studies.space import trial_params
from studies.storage import load_study


def export_answers(folder: StudyFolder, target: Path) -> Path:
    """Write what all complete arms answered, with a manifest, into `target`; where. Of an ablation, also the tables of
    studies/ablation_tables.py.

    Raises UserError for a study of a space, or if no arm is complete.
    """
    record = folder.read()
    definition = record.definition
    if not definition.arms:
        raise UserError(f"{definition.name} has no arms, whose answers could be compared; leave --answers out")
    trials = load_study(definition.name, record.storage).get_trials(deepcopy=False)
    complete = {str(trial.params[ARM]): trial for trial in trials if trial.state == TrialState.COMPLETE}
    if not complete:
        raise UserError(f"{definition.name} has no complete arm yet; see `python -m studies status {definition.name}`")
    runs = {(arm, seed): _run(folder, complete[arm], seed) for arm in complete for seed in definition.seeds}
    frames = [pd.read_parquet(run / ROWS).assign(method=arm, seed=seed) for (arm, seed), run in runs.items()]
    rows = pd.concat(frames).sort_values(["method", "seed", "k", "benchmark", "example_id"], kind="stable")
    inputs = json.loads((next(iter(runs.values())) / "config.json").read_text())["inputs"]
    package = definition.trainable.split(":")[0]
    manifest: dict[str, Any] = {
        "study": definition.name,
        "command": f"python -m studies export {definition.name} --answers {target}",
        "definition": definition.model_dump(),
        "params": record.params.model_dump(),
        "provenance": record.provenance,
        "arms": {arm: _arm(record, arm, trial) for arm, trial in complete.items()},
        "hashes": {**inputs, **module_hashes(folder.code(record.code), package)},
    }
    if definition.ablation is None:
        write_export(target, rows, manifest)
        return target
    planned = plan(definition.ablation, definition.params, record.params, definition.name)
    for arm in planned.arms:
        if arm.name in complete:
            manifest["arms"][arm.name] |= _place(arm)
    manifest["ablation"] = _ablation(planned, definition.ablation, complete)
    write_export(target, rows, manifest, ablation_tables.tables(runs, rows))
    return target


def _place(arm: Arm) -> dict[str, Any]:
    """Where in an ablation an arm stands."""
    return {"levels": arm.levels, "learning_rate": arm.rate}


def _ablation(planned: Plan, config: AblationConfig, complete: Collection[str]) -> dict[str, Any]:
    """What an export says of an ablation as a whole. Arms that did not get to their end have no rows: those whose
    training diverged are among them, so they are named."""
    return {
        "factors": planned.factors,
        "baseline": BASELINE,
        "design": config.design,
        "learning_rates": config.learning_rates,
        "missing": [arm.name for arm in planned.arms if arm.name not in complete],
    }


UNHASHED = (
    "grip_core/config/",
    "grip_core/rl/void",
    "grip_core/evaluation/exports.py",
    "grip_core/supervised/compute.py",
)
"""What no number depends on: the schema, for settings are compared by their values, the rules by which arms are
refused, what writes the hashes, and what only foretells a run's work."""


def module_hashes(code: Path, module: str) -> dict[str, str]:
    """`code_hash` of every file of grip_core that a module under `code` imports, itself or through others, by its path.

    Imports inside of functions count too, so these are more than a run has read. UNHASHED ones are left out.
    """
    finder = ModuleFinder(path=[str(code)])
    finder.import_hook(module)
    # typeshed leaves the attribute out.
    files = [Path(file) for found in finder.modules.values() if (file := found.__file__)]  # type: ignore[attr-defined]
    ours = sorted(path.relative_to(code) for path in files if path.is_relative_to(code / "grip_core"))
    return {str(path): code_hash(code / path) for path in ours if not str(path).startswith(UNHASHED)}


def _run(folder: StudyFolder, trial: FrozenTrial, seed: int) -> Path:
    lease = read_lease(folder.lease(trial.number))
    assert lease is not None  # the trial is complete
    return folder.run(trial.number, lease.attempt, seed)


def _arm(record: Study, arm: str, trial: FrozenTrial) -> dict[str, Any]:
    settings = record.definition.arms[arm]
    params = trial_params(record.definition, record.params, settings)
    return {"settings": settings, "cost": cost(params), **summary(trial)}
