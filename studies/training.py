"""The trials of this project: GRPO runs on the pipeline's features and warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grip_core.config import Params, check_budgets
from grip_core.errors import UserError
from grip_core.places import FEATURES, WARMUP
from grip_core.rl.inputs import open_inputs, open_task, run_config
from grip_core.rl.train import train
from grip_core.runs import RunFolder, hash_files
from grip_core.vlm.features import COMPLETE
from studies.trainable import Pause

SPLITS = ("train", "validation")
OPENED = ("vlm", "data", "features", "scorer", "warmup", "evaluate")
"""Sections that decide what a worker opens once; a trial cannot have its own."""


class Training:
    """Opens the VLM, the features and the warm-up once."""

    def __init__(self, params: Params) -> None:
        self.opened = params
        self.inputs = open_inputs(
            params.vlm,
            FEATURES,
            params.data.benchmarks,
            params.evaluate.budgets,
            params.evaluate.headline_share,
            params.grpo.validation_questions,
        )
        check_budgets(params, self.inputs.train.n_visual)
        self.task = open_task(self.inputs, WARMUP)
        # A study's code is its snapshot, so the hash of the modules that happen to be loaded has no place here.
        self.data = {name: value for name, value in self.inputs.fingerprint.items() if name != "code"}
        self.fingerprint: dict[str, Any] = {**self.data, "warmup": hash_files((WARMUP / "scorer").iterdir())}

    @staticmethod
    def check(params: Params) -> None:
        """See Trainable."""
        needed = [
            WARMUP / "scorer",
            *(FEATURES / name / split / COMPLETE for name in params.data.benchmarks for split in SPLITS),
        ]
        missing = [str(path) for path in needed if not path.exists()]
        if missing:
            raise UserError(
                f"a study needs the pipeline's features and warm-up, but {missing[0]} is missing; run `make repro`"
            )

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        """See Trainable. Raises UserError if the params differ in what was opened."""
        for section in OPENED:
            if getattr(params, section) != getattr(self.opened, section):
                raise UserError(
                    f"{section} is read once a study and cannot be searched; remove its keys from the space"
                )
        check_budgets(params, self.inputs.train.n_visual)
        run = RunFolder(folder, run_config(params.grpo, params.budgets, seed, WARMUP, self.data))
        if not (rows := rows_at(run, step)):
            train(
                params.grpo,
                params.budgets,
                seed,
                self.task,
                self.inputs.validation,
                run,
                pause=lambda now: now >= step or pause(),
            )
            rows = rows_at(run, step)
        return rows[0] if rows else None


def rows_at(run: RunFolder, step: int) -> list[dict[str, float]]:
    """The one row of metrics at that step; empty if the run has not got there."""
    return [row for row in run.metrics() if row["step"] == step]
