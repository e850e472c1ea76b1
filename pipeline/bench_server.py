"""Print what it costs, and what it saves, to share one frozen VLM between training runs.

One server and 1, 4 and 8 runs beside it, against as many runs with a VLM of their own. The server has torch's own
number of threads and the runs beside it have one each; runs with a VLM of their own share the cores out among them, for
more threads than cores wait for each other. Needs the stages up to `warmup` (`dvc repro warmup`); writes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, TrainerCallback

from grip_core.config import BudgetConfig, GrpoConfig, Params
from grip_core.errors import UserError
from grip_core.places import FEATURES, WARMUP
from grip_core.rl.inputs import load_scorer
from grip_core.rl.task import Task
from grip_core.rl.train import build_trainer
from grip_core.vlm.features import load_store
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm
from grip_core.vlm.protocol import AnsweringVLM
from grip_core.vlm.remote import RemoteVLM
from grip_core.vlm.server import host
from pipeline.stage import run

RUNS = (1, 4, 8)
STEPS = 12
DISCARDED = 3  # steps before caches and allocators are warm
LOADING = 600.0  # seconds for all runs of a measurement to be ready
PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class World:
    """What is trained in; its parts are opened anew in every process."""

    open_vlm: Callable[[], FrozenVLM]
    open_task: Callable[[AnsweringVLM], Task]
    grpo: GrpoConfig
    budgets: BudgetConfig


@dataclass(frozen=True)
class Measured:
    """So many runs at the same time."""

    runs: int
    step: float
    """Seconds: the median of each run's steps, averaged over the runs."""
    rate: float
    """Steps per second of all runs together."""
    run_memory: float
    """Resident memory of a run's process at its end, MB, averaged."""
    server_memory: float
    """Likewise of the server; 0 without one."""

    @property
    def memory(self) -> float:
        """MB of all processes."""
        return self.runs * self.run_memory + self.server_memory


class Clock(TrainerCallback):
    """When steps began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.began.append(time.perf_counter())


def measure(world: World, runs: int, shared: bool) -> Measured:
    """Train so many runs at once, with one VLM in all or one each. Raises UserError if one of them fails."""
    ready, results = PROCESSES.Barrier(runs), PROCESSES.SimpleQueue()
    with _server(world) if shared else nullcontext() as server:
        arguments = (world, None if server is None else server.path, ready, results)
        threads = 1 if shared else max(1, torch.get_num_threads() // runs)
        processes = [PROCESSES.Process(target=_train, args=(seed, threads, *arguments)) for seed in range(runs)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise UserError("a measured run failed; its error is above")
        found = np.array([results.get() for _ in range(runs)])
        memory = 0.0 if server is None else resident(server.pid)
    steps = found[:, 0]
    return Measured(runs, float(steps.mean()), float(found[:, 1].sum()), float(found[:, 2].mean()), memory)


@dataclass(frozen=True)
class _Server:
    path: Path
    pid: int


@contextmanager
def _server(world: World) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory(prefix="grip-") as private:
        path = Path(private) / "vlm"
        process = PROCESSES.Process(target=host, args=(world.open_vlm, path, os.getpid()))
        process.start()
        assert process.pid is not None
        yield _Server(path, process.pid)
        process.terminate()
        process.join()


def _train(seed: int, threads: int, world: World, socket: Path | None, ready, results) -> None:
    """A run's process: median seconds a step, steps per second, memory in MB."""
    torch.set_num_threads(threads)
    task = world.open_task(world.open_vlm() if socket is None else RemoteVLM(socket))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(world.grpo, world.budgets, seed, task, Path(folder))
        clock = Clock()
        trainer.add_callback(clock)
        trainer.remove_callback(PrinterCallback)
        ready.wait(LOADING)
        trainer.train()
    times = np.diff([*clock.began, time.perf_counter()])[DISCARDED:]
    results.put((float(np.median(times)), len(times) / float(times.sum()), resident(os.getpid())))


def resident(pid: int) -> float:
    """Resident memory of a process, MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def table(measured: dict[str, list[Measured]]) -> Table:
    """One row for every number of runs and every way."""
    shown = Table(title="GRPO with a shared VLM")
    for name in ("runs", "VLM", "step s", "steps/s in all", "server MB", "run MB", "in all MB"):
        shown.add_column(name, justify="left" if name == "VLM" else "right")
    for way, rows in measured.items():
        for item in rows:
            memory = [item.server_memory, item.run_memory, item.memory]
            cells = [f"{item.step:.3f}", f"{item.rate:.2f}", *(f"{x:.0f}" for x in memory)]
            shown.add_row(str(item.runs), way, *cells)
    return shown


def open_task(params: Params, vlm: AnsweringVLM) -> Task:
    """The pipeline's own training task."""
    return Task(vlm, load_store(FEATURES, params.data.trained_on, "train"), load_scorer(WARMUP))


def main(params: Params) -> None:
    """Measure and print."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as a study's job does it, see studies/team.py
    steps = {"steps": STEPS, "num_iterations": 1, "checkpoint_every": STEPS * 10}
    world = World(
        partial(load_vlm, params.vlm.path, params.vlm.positions, params.vlm.dtype),
        partial(open_task, params),
        params.grpo.model_copy(update=steps),
        params.budgets,
    )
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads a process, {os.cpu_count()} cores")
    ways = {"shared": True, "one each": False}
    console.print(table({way: [measure(world, runs, shared) for runs in RUNS] for way, shared in ways.items()}))


if __name__ == "__main__":
    run(main)
