"""A file for every worker process: where it runs, since when, what it does, how long it was at work."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from grip_core.files import write_text
from studies.folder import StudyFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """What a worker says of itself."""

    worker: str
    job: str
    host: str
    pid: int
    gpus: int
    log: str
    started: float
    """Unix time."""
    seconds: float = 0.0
    """Since the process's start."""
    loading: float = 0.0
    """Of them before the first trial was asked for."""
    in_trials: float = 0.0
    """Of them in trials."""
    trial: int | None = None
    ended: str | None = None
    """Why it has ended; None while it runs, and for ever if it was killed."""


class Reporter:
    """Keeps a worker's card up to date, from a thread of its own."""

    def __init__(self, path: Path, card: Card, beat: float) -> None:
        self.path, self.card, self.beat = path, card, beat
        self._began = time.monotonic()
        self._trial_began: float | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="card", daemon=True)
        self.write()
        self._thread.start()

    def loaded(self) -> None:
        self._change(loading=time.monotonic() - self._began)

    def begin(self, trial: int) -> None:
        self._trial_began = time.monotonic()
        self._change(trial=trial)

    def end(self) -> None:
        if self._trial_began is not None:
            self._change(trial=None, in_trials=self.card.in_trials + time.monotonic() - self._trial_began)
            self._trial_began = None

    def close(self, reason: str) -> None:
        """The last word."""
        self._done.set()
        self.end()
        self._change(ended=reason)

    def write(self) -> None:
        try:
            with self._lock:
                self.card = replace(self.card, seconds=time.monotonic() - self._began)
                write_text(self.path, json.dumps(asdict(self.card)))
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.path, error)

    def _change(self, **fields: float | int | str | None) -> None:
        with self._lock:
            self.card = replace(self.card, **fields)  # type: ignore[arg-type]
        self.write()

    def _run(self) -> None:
        while not self._done.wait(self.beat):
            self.write()


def new_card(worker: str, job: str, host: str, gpus: int, log: str) -> Card:
    """The card of this process."""
    return Card(worker, job, host, os.getpid(), gpus, log, time.time())


def read_cards(folder: StudyFolder) -> list[Card]:
    """All workers there ever were, oldest first."""
    cards = [Card(**json.loads(path.read_text())) for path in folder.workers.glob("*.json")]
    return sorted(cards, key=lambda card: card.started)


def spent_gpu_hours(folder: StudyFolder) -> float:
    """GPU-hours that all workers have taken so far, idle ones included."""
    return sum(card.seconds * card.gpus for card in read_cards(folder)) / 3600
