"""A job whose workers share one VLM: a process that holds it, and a process for every worker.

Each worker is one like any other, with its own name, card, leases and log. They have their job in common, and with it
what ends it; the job waits for all of them, so that it is requeued once.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grip_core.errors import UserError
from studies.claims import identify
from studies.folder import StudyFolder
from studies.trainable import load_trainable

logger = logging.getLogger(__name__)
POLL = 0.2
"""Seconds between looks at the processes."""
LAST_REQUEST = 60.0
"""Seconds for which a server that is told to end may still compute."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait sleep. As OpenMP has it they spin, and keep the cores from the job's other processes: with four
runs on two cores that made a step take ten times as long. Numbers do not change."""


@dataclass(frozen=True)
class Seat:
    """A worker's place in a job that has several."""

    job: str
    """As in Identity."""
    team: str
    """The start of the job; a requeued one is another team."""
    socket: Path


def lead(folder: StudyFolder, workers: int, interrupted: Callable[[], bool]) -> str:
    """Start a server and so many workers, and wait until all have ended; why.

    An interruption is passed on to the workers. Raises UserError if the server or a worker failed.
    """
    record = folder.read()
    me = identify()
    with tempfile.TemporaryDirectory(prefix="grip-") as private:
        seat = Seat(me.job, me.worker, Path(private) / "vlm")
        command = load_trainable(record.definition.trainable).server(record.params, seat.socket)
        logs = [folder.logs / f"{me.worker}-{name}.log" for name in ("vlm", *map(str, range(workers)))]
        # In a session of its own, for it has to outlive the workers when all of the job's processes are signalled.
        server = _start(command, logs[0], start_new_session=True)
        own = [sys.executable, "-m", "studies", "work", str(folder.path), "--seat", *map(str, vars(seat).values())]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes += [_start(own, log) for log in logs[1:]]
            died = _wait(server, processes, interrupted, Path(private))
        finally:
            for process in processes:
                process.kill()
            _end(server)
    if interrupted():
        return "it was interrupted"
    if died:
        raise UserError(f"the process that holds the VLM ended with code {server.returncode}; see {logs[0]}")
    failed = [str(log) for log, process in zip(logs[1:], processes) if process.returncode]
    if failed:
        raise UserError(f"{len(failed)} of {workers} workers failed; see {', '.join(failed)}")
    return "its workers have ended"


def _start(command: list[str], log: Path, start_new_session: bool = False) -> subprocess.Popen[bytes]:
    with open(log, "w") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=PATIENT | os.environ,
            start_new_session=start_new_session,
        )


def _wait(
    server: subprocess.Popen[bytes],
    processes: list[subprocess.Popen[bytes]],
    interrupted: Callable[[], bool],
    private: Path,
) -> bool:
    """Until all workers have ended; whether the server has ended before them."""
    told = died = False
    while any(process.poll() is None for process in processes):
        if server.poll() is not None and not died:
            died = True
            logger.error("the process that holds the VLM has ended; so do its workers")
            shutil.rmtree(private)  # tells those that wait for it to listen
        if (interrupted() or died) and not told:
            told = True
            for process in processes:
                process.terminate()
        time.sleep(POLL)
    return died


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(LAST_REQUEST)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
