"""A trainable for tests: a random walk with a checkpoint, which sleeps instead of computing.

A step takes `grpo.beta` seconds. `grpo.epsilon` says how a trial fails: see FAILURES. A SharedWalk asks another process
at every step, which only echoes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from grip_core.config import Params
from grip_core.errors import ServerLost
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


class SharedWalk(Walk):
    def __init__(self, params: Params, place: Path | None = None) -> None:
        super().__init__(params)
        self.connection = None if place is None else connected(place)

    @staticmethod
    def server(params: Params, place: Path) -> list[str]:
        return [sys.executable, "-m", "tests.studies.toys", str(place), str(os.getpid())]

    def advance(self, params: Params, seed: int, step: int, folder: Path, pause: Pause) -> dict[str, float] | None:
        def ask() -> bool:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.sendall(b"?")
                    if self.connection.recv(1) == b"?":
                        return pause()
                raise ServerLost("the echo has gone")
            return pause()

        return super().advance(params, seed, step, folder, ask)


def connected(place: Path) -> socket.socket:
    while place.parent.exists():
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            connection.connect(str(place))
            return connection
        time.sleep(0.05)
    raise ServerLost("there is no echo")


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while asked := self.request.recv(1):
            self.request.sendall(asked)


def echo(place: str, owner: int) -> None:
    server = socketserver.ThreadingUnixStreamServer(place, Echo)
    server.daemon_threads, server.timeout = True, 0.2
    while os.getppid() == owner:
        server.handle_request()


def next_state(state: dict[str, Any], seed: int, drift: float) -> dict[str, Any]:
    draw = np.random.RandomState(1000 * seed + state["step"]).standard_normal()
    return {"step": state["step"] + 1, "x": 0.9 * state["x"] + draw + drift}


def walk(seed: int, drift: float, steps: int) -> float:
    """Where an uninterrupted walk ends."""
    state: dict[str, Any] = {"step": 0, "x": 0.0}
    for _ in range(steps):
        state = next_state(state, seed, drift)
    return state["x"]


if __name__ == "__main__":
    echo(sys.argv[1], int(sys.argv[2]))
