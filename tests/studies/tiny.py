"""A trainable for tests: real GRPO runs on a tiny random LLaVA."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from grip_core.config import Params
from grip_core.rl.train import Task, train
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder
from studies.trainable import Pause, Trainable
from tests.conftest import _llava
from tests.rl.conftest import BUDGETS, make_scorer, make_store

STEP_SECONDS = 0.3
"""Added to each step, so that a test has the time to disturb it."""


class Tiny(Trainable):
    def __init__(self, params: Params) -> None:
        llava = _llava()
        store = make_store(llava)
        self.fingerprint: dict[str, Any] = {}
        self.task = Task(llava.vlm, store, make_scorer())
        self.validation = Validation(llava.vlm, store, [1, 4])

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        run = RunFolder(folder, {"grpo": params.grpo.model_dump(), "seed": seed})

        def stop(now: int) -> bool:
            time.sleep(STEP_SECONDS)
            return now >= step or pause()

        if not any(row["step"] == step for row in run.metrics()):
            train(params.grpo, BUDGETS, seed, self.task, self.validation, run, pause=stop)
        return next((row for row in run.metrics() if row["step"] == step), None)
