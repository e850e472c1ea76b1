"""A trainable for tests: real GRPO runs on a tiny random LLaVA."""

from __future__ import annotations

import itertools
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from grip_core.config import Params
from grip_core.rl.inputs import Inputs
from grip_core.rl.processes import rank
from grip_core.rl.task import Task
from grip_core.rl.train import train
from grip_core.rl.validation import Validation
from grip_core.runs import RunFolder
from grip_core.vlm.frozen import AnswerScores
from grip_core.vlm.protocol import AnsweringVLM
from grip_core.vlm.remote import RemoteVLM
from grip_core.vlm.server import host
from studies.comparison import Comparison
from studies.trainable import Pause, Trainable
from tests import families
from tests.rl.conftest import BUDGETS, make_scorer, make_store

STEP_SECONDS = 0.3
"""Added to each step, so that a test has the time to disturb it."""


class Tiny(Trainable):
    def __init__(self, params: Params, socket: Path | None = None) -> None:
        llava = families.llava()
        store = make_store(llava)
        vlm: AnsweringVLM = llava.vlm if socket is None else RemoteVLM(socket)
        self.fingerprint: dict[str, Any] = {}
        self.task = Task(vlm, store, make_scorer())
        self.validation = Validation(vlm, store, [1, 4])

    @staticmethod
    def server(params: Params, socket: Path) -> list[str]:
        return [sys.executable, "-m", "tests.studies.tiny", str(socket), str(os.getpid())]

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        run = RunFolder(folder, {"grpo": params.grpo.model_dump(), "seed": seed})

        def stop(now: int) -> bool:
            time.sleep(STEP_SECONDS)
            return now >= step or pause()

        if run.metrics_at(step) is None:
            train(params.grpo, BUDGETS, seed, self.task, self.validation, run, pause=stop)
        return run.metrics_at(step)


class TinyComparison(Comparison):
    """Its arms are trained and answer on the same few examples."""

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        llava = families.llava()
        store = make_store(llava)
        named = store.table.assign(id=[f"q{i}" for i in range(len(store))], image_id=store.table["image_row"], kind="")
        self.inputs = Inputs(llava.vlm, store, Validation(llava.vlm, store, [1, 4]), {})
        self.test = replace(store, table=named)
        self.evaluated = params.evaluate
        self.data = {"inputs": {"vlm": "tiny"}}
        self.fingerprint = {}

    @staticmethod
    def needed(params: Params) -> list[Path]:
        return []

    def run_config(self, params: Params, seed: int) -> dict[str, Any]:
        return {
            "grpo": params.grpo,
            "supervised": params.supervised,
            "budgets": params.budgets,
            "seed": seed,
            **self.data,
        }

    def task(self, params: Params, seed: int) -> Task:
        return Task(self.inputs.vlm, self.inputs.train, make_scorer())


class Exhausted(TinyComparison):
    """Its first process has memory for a few forwards."""

    def __init__(self, params: Params, socket: Path | None = None) -> None:
        super().__init__(params, socket)
        vlm, made = self.inputs.vlm, itertools.count()
        whole = vlm.answer_scores

        def answer_scores(*given: Any) -> AnswerScores:
            if rank() == 0 and next(made) == 10:
                raise MemoryError
            return whole(*given)

        vlm.answer_scores = answer_scores


if __name__ == "__main__":
    host(lambda: families.llava().vlm, Path(sys.argv[1]), int(sys.argv[2]))
