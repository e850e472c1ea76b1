"""A worker of several processes: the one that takes trials, and others that hold the VLM on further devices.

They train along (grip_core/rl/processes.py). The first tells them which run it goes on with; what it does besides, from
taking trials to answering test questions, they do not.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from grip_core.errors import ProcessLost, UserError
from studies.folder import StudyFolder
from studies.profile import Profile
from studies.trainable import load_trainable

logger = logging.getLogger(__name__)
POLL = 1.0
"""Seconds between looks at the others, or at the first."""
END = 60.0
"""Seconds that the others are given to end."""
SIGNALLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


def check_crew(processes: int, profile: Profile) -> None:
    """Raise UserError if a profile's jobs cannot have workers of so many processes."""
    if processes == 1:
        return
    if profile.runs_per_vlm > 1:
        raise UserError(
            f"vlm.processes must be 1 where runs share a VLM, but got {processes} with "
            f"runs_per_vlm={profile.runs_per_vlm}; set one of them to 1"
        )
    if profile.cluster == "slurm" and profile.gpus < processes:
        raise UserError(
            f"a job of the profile must have a GPU for each of vlm.processes={processes}, but has gpus={profile.gpus}; "
            "raise gpus"
        )


class Crew:
    """The other processes of this worker, which starts them; its own environment becomes that of the first.

    Raises UserError if there are GPUs, but not one for each process.
    """

    def __init__(self, folder: StudyFolder, processes: int, log: Path) -> None:
        from grip_core.rl import processes as team

        team.check_devices(processes)
        self._closing = self._told = False
        common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        command = [sys.executable, "-m", "studies", "follow", str(folder.path)]
        self._others: list[subprocess.Popen[bytes]] = []
        # What a scheduler signals to all processes of a job these are to ignore, from their very start on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALLED)
        for number in range(1, processes):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)}
            with open(log.with_suffix(f".{number}.log"), "w") as file:
                self._others.append(
                    subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **common, **own})
                )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.environ.update(common | {"RANK": "0", "LOCAL_RANK": "0"})
        threading.Thread(target=self._watch, name="crew", daemon=True).start()
        team.join()

    def whole(self) -> bool:
        """Whether all of them live."""
        return all(process.poll() is None for process in self._others)

    def deserted(self) -> bool:
        """Whether one of them has ended. One whose connections are closed may take a moment more to."""
        deadline = time.monotonic() + 2 * POLL
        while self.whole() and time.monotonic() < deadline:
            time.sleep(POLL / 10)
        return not self.whole()

    def _watch(self) -> None:
        """Without one of them the first would wait for ever, while its lease says that it lives."""
        while not self._closing:
            if not self.whole() and not self._closing:
                logger.error("a process of this worker has ended; see the logs beside this one. So does the worker")
                os._exit(1)
            time.sleep(POLL)

    def dismiss(self) -> None:
        """Tell them that no run comes any more. Only while they wait for the next one."""
        from grip_core.rl.processes import by_first

        if self.whole():
            self._closing = self._told = True
            with suppress(ProcessLost):
                by_first(lambda: None)

    def close(self) -> None:
        """Have them end, wherever they are."""
        self._closing = True
        for process in self._others:
            try:
                process.wait(END if self._told else 0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def follow(folder: StudyFolder) -> None:
    """Be one of the others: train along whatever run the first names, until it names none."""
    from grip_core.rl import processes as team

    # Schedulers signal all processes of a job. The first puts the run down, and these with it.
    for signalled in SIGNALLED:
        signal.signal(signalled, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), name="owner", daemon=True).start()
    record = folder.read()
    os.chdir(record.directory)
    team.join()
    trainable = load_trainable(record.definition.trainable)(record.params)
    while (run := team.by_first(_next_run)) is not None:
        try:
            trainable.follow(*run)
        except (UserError, FloatingPointError, team.FirstFailed) as error:  # so it is in the first, which tells of it
            logger.info("%s", error)


def _end_with(owner: int) -> None:
    while os.getppid() == owner:
        time.sleep(POLL)
    os._exit(1)


def _next_run() -> Any:
    """Only the first knows; `by_first` does not call this here."""
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
