"""A trainable for tests: a random walk with a checkpoint, which sleeps instead of computing.

A step takes `grpo.beta` seconds. `grpo.epsilon` says how a trial fails: see FAILURES.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from grip_core.config import Params
from grip_core.files import write_text
from studies.trainable import Pause, Trainable

FAILURES: dict[float, type[Exception]] = {0.5: FloatingPointError, 0.6: RuntimeError, 0.7: MemoryError}


class Walk(Trainable):
    def __init__(self, params: Params) -> None:
        self.fingerprint: dict[str, Any] = {"data": params.data.seed}

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint, metrics = folder / "status.json", folder / "metrics.jsonl"
        state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "x": 0.0}
        rows = [json.loads(line) for line in metrics.read_text().split("\n")[:-1]] if metrics.exists() else []
        rows = [row for row in rows if row["step"] <= state["step"]]
        write_text(metrics, "".join(json.dumps(row) + "\n" for row in rows))
        while state["step"] < step:
            if pause():
                write_text(checkpoint, json.dumps(state))
                return None
            time.sleep(params.grpo.beta)
            failure = FAILURES.get(params.grpo.epsilon)
            if failure is not None and state["step"] == 1:
                raise failure("as the test asked for")
            state = next_state(state, seed, params.grpo.learning_rate)
            with open(metrics, "a") as file:
                file.write(json.dumps({"step": state["step"], "accuracy": state["x"], "kl": state["x"] ** 2}) + "\n")
            if state["step"] % params.grpo.checkpoint_every == 0:
                write_text(checkpoint, json.dumps(state))
        found = [json.loads(line) for line in metrics.read_text().splitlines()]
        return next(row for row in found if row["step"] == step)


def next_state(state: dict[str, Any], seed: int, drift: float) -> dict[str, Any]:
    draw = np.random.RandomState(1000 * seed + state["step"]).standard_normal()
    return {"step": state["step"] + 1, "x": 0.9 * state["x"] + draw + drift}


def walk(seed: int, drift: float, steps: int) -> float:
    """Where an uninterrupted walk ends."""
    state: dict[str, Any] = {"step": 0, "x": 0.0}
    for _ in range(steps):
        state = next_state(state, seed, drift)
    return state["x"]
