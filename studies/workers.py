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
    """Of its job."""
    log: str
    started: float
    """Unix time."""
    team: str | None = None
    """The start of a job in which several workers share a VLM; None where a worker has its job to itself."""
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
        self._counted: float | None = None  # a trial's time up to then is in the card; None between trials
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="card", daemon=True)
        self.write()
        self._thread.start()

    def loaded(self) -> None:
        self._change(loading=time.monotonic() - self._began)

    def begin(self, trial: int) -> None:
        self._counted = time.monotonic()
        self._change(trial=trial)

    def end(self) -> None:
        self.write()
        self._counted = None
        self._change(trial=None)

    def close(self, reason: str) -> None:
        """The last word."""
        self._done.set()
        self.end()
        self._change(ended=reason)

    def write(self) -> None:
        try:
            with self._lock:
                now, in_trials = time.monotonic(), self.card.in_trials
                if self._counted is not None:
                    in_trials, self._counted = in_trials + now - self._counted, now
                self.card = replace(self.card, seconds=now - self._began, in_trials=in_trials)
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


def new_card(worker: str, job: str, host: str, gpus: int, log: str, team: str | None = None) -> Card:
    """The card of this process."""
    return Card(worker, job, host, os.getpid(), gpus, log, time.time(), team)


def read_cards(folder: StudyFolder) -> list[Card]:
    """All workers there ever were, oldest first."""
    cards = [Card(**json.loads(path.read_text())) for path in folder.workers.glob("*.json")]
    return sorted(cards, key=lambda card: card.started)


def members(cards: list[Card], job: str) -> list[Card]:
    """The cards of a job's newest start, by the job's name as the scheduler has it or its process id."""
    own = [card for card in cards if card.job.rsplit("-", 1)[-1] == job]
    return [card for card in own if card.team is not None and card.team == own[-1].team] or own[-1:]


def spent_gpu_hours(folder: StudyFolder) -> float:
    """GPU-hours that all jobs have taken so far, idle ones included.

    Workers that share a VLM share its GPUs, from the first one's start to the last one's end.
    """
    starts: dict[str, list[Card]] = {}
    for card in read_cards(folder):
        starts.setdefault(card.team or card.worker, []).append(card)
    return sum(_gpu_seconds(cards) for cards in starts.values()) / 3600


def _gpu_seconds(cards: list[Card]) -> float:
    begun = min(card.started for card in cards)
    return max(card.gpus * (card.started + card.seconds - begun) for card in cards)
