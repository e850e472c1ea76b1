"""How fast each storage hands out trials: `make bench-storage`.

Worker processes take and finish trials of nothing, through the same lock, leases and sampler as a real study's, so this
is what the storage and the bookkeeping cost a trial.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from grip_core.config import load, parse
from studies.claims import Claim, claim
from studies.definition import Definition
from studies.folder import Study, StudyFolder
from studies.lease import Hold, Identity, Watch
from studies.sampling import quiet_optuna
from studies.storage import load_study, open_storage

SECONDS = 10.0
"""How long each setting is measured."""


def main() -> None:
    """Print trials per second and the latency of taking and of telling, by storage and number of workers."""
    parser = argparse.ArgumentParser(prog="python -m studies.bench_storage", description=__doc__)
    parser.add_argument("--postgresql", metavar="URL", help="measure this database too; it is left with the studies")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32], help="default: 1 8 32")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per setting (default: %(default)s)")
    arguments = parser.parse_args()
    quiet_optuna()
    table = Table("storage", "workers", "trials / s", "take p50 ms", "take p99 ms", "tell p50 ms", "tell p99 ms")
    console = Console()
    storages = ["journal", *(["postgresql"] if arguments.postgresql else [])]
    with console.status("measuring") as progress:
        for kind in storages:
            for workers in arguments.workers:
                progress.update(f"{kind}, {workers} workers")
                with tempfile.TemporaryDirectory() as root:
                    url = arguments.postgresql if kind == "postgresql" else str(Path(root) / "journal.log")
                    table.add_row(kind, str(workers), *measure(Path(root), url, workers, arguments.seconds))
    console.print(table)


def measure(root: Path, storage: str, workers: int, seconds: float) -> list[str]:
    """One row: throughput, and median and 99th percentile of both latencies."""
    name = f"bench-{time.time_ns()}"
    folder = StudyFolder(root / name)
    folder.workers.mkdir(parents=True)
    folder.write(Study(definition(name), load(), {}, storage, "", str(Path.cwd()), time.time(), {}))
    optuna.create_study(study_name=name, storage=open_storage(storage))
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        ready = context.Manager().Barrier(workers)
        found = pool.starmap(work, [(folder.path, seconds, ready)] * workers, chunksize=1)
    spans = [span for _, span in found]
    latencies = np.array([row for rows, _ in found for row in rows])
    take, tell = 1000 * latencies.T
    cells = [len(latencies) / float(np.mean(spans))]
    cells += [float(np.percentile(values, q)) for values in (take, tell) for q in (50, 99)]
    return [f"{value:.1f}" for value in cells]


def work(path: Path, seconds: float, ready: object) -> tuple[list[tuple[float, float]], float]:
    """Take and finish trials for so long: seconds of taking and of telling for each, and how long it was at it."""
    quiet_optuna()
    folder = StudyFolder(path)
    record = folder.read()
    study = load_study(record.definition.name, record.storage)
    me = Identity(f"worker-{time.time_ns()}", "job", 0, "host")
    watch = Watch(record.definition.lease.grace, record.definition.lease.beat)
    rows = []
    ready.wait()  # type: ignore[attr-defined]
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        found = claim(study, folder, record, me, watch)
        assert isinstance(found, Claim)
        taken = time.perf_counter()
        with Hold(folder.lease(found.trial.number), found.lease, record.definition.lease.beat) as hold, hold.owned():
            study.tell(found.trial.number, 0.0, state=TrialState.COMPLETE)
        rows.append((taken - start, time.perf_counter() - taken))
    return rows, time.perf_counter() - began


def definition(name: str) -> Definition:
    """A study with three keys and no end."""
    raw = {
        "name": name,
        "space": {
            "grpo.beta": {"low": 0.001, "high": 0.1, "log": True},
            "grpo.learning_rate": {"low": 0.0001, "high": 0.01, "log": True},
            "grpo.group_size": {"choices": [8, 16, 32]},
        },
        "objectives": [{"metric": "accuracy", "direction": "maximize"}],
        "sampler": {"name": "tpe"},
        "pruner": {"name": "none"},
        "seeds": [0],
        "compute": {"selections": 102400, "rungs": 1},
        "budget": {"trials": 10**6},
        "promote": {"best": 1, "seeds": [1]},
    }
    return parse(Definition, raw, name)


if __name__ == "__main__":
    main()
