"""Whose trial it is: a file in the trial's folder, never an attribute in the storage.

A worker that has taken a trial raises the lease's counter while it lives. Another that sees the counter stand still
takes the trial over under a new token, in a new attempt's folder; whoever lost the token can write nothing that counts.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from grip_core.files import write_text

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The trial belongs to another worker now."""


@dataclass(frozen=True)
class Identity:
    """A worker process and the job that it runs in."""

    worker: str
    job: str
    """The SLURM job, or element of an array; one that was requeued keeps its name."""
    restarts: int
    """How often the job had been requeued when the process began."""
    host: str

    def succeeds(self, other: Identity) -> bool:
        """Whether this process is a later start of the other's job: the other is dead, or should be."""
        return self.job == other.job and self.restarts > other.restarts


@dataclass(frozen=True)
class Lease:
    """A worker's hold on a trial."""

    token: str
    """Of this attempt alone."""
    counter: int
    attempt: int
    losses: int
    """How many workers the trial has lost so far."""
    stuck: int
    """How many of them since it last got on."""
    reached: int
    """How many parts of its work are done, in whatever attempt."""
    owner: Identity
    seconds: float = 0.0
    """How long the trial has been worked on, in all its attempts."""
    released: bool = False
    """Put down on purpose: anyone may go on at once."""


def new_lease(owner: Identity, before: Lease | None = None, lost: bool = False) -> Lease:
    """The lease of the next attempt; `lost` counts the one before as a lost worker."""
    token = uuid.uuid4().hex
    if before is None:
        return Lease(token, 0, 1, 0, 0, 0, owner)
    losses, stuck = before.losses + lost, before.stuck + lost
    return Lease(token, 0, before.attempt + 1, losses, stuck, before.reached, owner, before.seconds)


def read_lease(path: Path) -> Lease | None:
    """The lease in force; None if the trial was never taken."""
    try:
        raw = json.loads(path.read_text())
        return Lease(**raw | {"owner": Identity(**raw["owner"])})
    except FileNotFoundError:
        return None


def write_lease(path: Path, lease: Lease) -> None:
    """Put a lease in force. Hold the study's lock to take a trial, and always the lease's own."""
    write_text(path, json.dumps(asdict(lease)))


def lease_lock(path: Path) -> FileLock:
    """Held while the lease is changed, and while its owner does what only an owner may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_suffix(".lock"))


class Hold:
    """A lease in use: raises its counter in a thread of its own, so that a long step does not look like death."""

    def __init__(self, path: Path, lease: Lease, beat: float, limit: float | None = None) -> None:
        """`limit`: seconds after which the trial counts as hung if its worker has not noticed by itself."""
        self.path, self.lease, self.beat, self.limit = path, lease, beat, limit
        self._began = time.monotonic()
        self.lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Hold:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    @contextmanager
    def owned(self) -> Iterator[Lease]:
        """Do something as the owner. Raises LeaseLost if somebody else has taken the trial."""
        with lease_lock(self.path):
            found = read_lease(self.path)
            if found is None or found.token != self.lease.token:
                self.lost.set()
                raise LeaseLost(f"{self.path.parent} was taken over by {found.owner.worker if found else 'nobody'}")
            yield found

    @property
    def seconds(self) -> float:
        """How long the trial has been worked on, in this attempt and those before."""
        return self.lease.seconds + time.monotonic() - self._began

    def reach(self, parts: int) -> None:
        """Note that so many parts of the trial are done: workers lost before are no sign that it kills them."""
        with self.owned() as found:
            if parts > found.reached:
                write_lease(self.path, replace(found, reached=parts, stuck=0))

    def release(self) -> None:
        """Put the trial down for anyone to go on."""
        with self.owned() as found:
            write_lease(self.path, replace(found, released=True, seconds=self.seconds))

    def _run(self) -> None:
        while not self._done.wait(self.beat):
            if self.limit is not None and self.seconds > self.limit:
                logger.error("%s hangs: ending this process, so that another sees its time-out", self.path.parent)
                os._exit(70)  # the main thread answers to nothing
            try:
                with self.owned() as found:
                    write_lease(self.path, replace(found, counter=found.counter + 1, seconds=self.seconds))
            except LeaseLost:
                return
            except OSError as error:
                # A file system that is away for a while: whoever watches cannot read it either, or sees it stand still.
                logger.warning("%s cannot be written: %s; trying again", self.path, error)


class Watch:
    """How long others' leases have stood still, on this process's own clock.

    Only time counts in which the file was read again and again: a file system that hangs, or a watcher that was
    suspended, makes nobody look dead.
    """

    def __init__(self, grace: float, poll: float) -> None:
        self.grace, self.poll = grace, poll
        self._seen: dict[Path, _Seen] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Keep looking, from a thread of its own, at whatever leases were asked for: also while a trial runs here."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def look(self, path: Path, lease: Lease, now: float) -> None:
        """Take note of a lease at monotonic time `now`."""
        with self._lock:
            before = self._seen.get(path, _Seen(lease.token, lease.counter, now))
            moved = (before.token, before.counter) != (lease.token, lease.counter)
            gap = now - before.at
            quiet = 0.0 if moved else before.quiet + min(gap, 2 * self.poll)
            # A counter that moved since the last look, long ago, does not tell whether it still moves.
            alive_at = now if moved and gap <= 2 * self.poll else before.alive_at
            self._seen[path] = _Seen(lease.token, lease.counter, now, quiet, alive_at)

    def expired(self, path: Path, lease: Lease, now: float) -> bool:
        """Look at a lease; true once it has stood still for the grace."""
        self.look(path, lease, now)
        return self._seen[path].quiet >= self.grace

    def alive(self, path: Path, now: float) -> bool:
        """Whether the lease was seen to move within the last two beats."""
        return path in self._seen and now - self._seen[path].alive_at <= 4 * self.poll

    def forget(self, but: Iterable[Path]) -> None:
        """Look no longer at other leases than these."""
        kept = set(but)
        with self._lock:
            self._seen = {path: seen for path, seen in self._seen.items() if path in kept}

    def _run(self) -> None:
        while True:
            time.sleep(self.poll)
            for path in list(self._seen):
                try:
                    lease = read_lease(path)
                except OSError:
                    continue  # time in which it cannot be read does not count
                if lease is not None:
                    self.look(path, lease, time.monotonic())


@dataclass(frozen=True)
class _Seen:
    """A lease as it was at the last look."""

    token: str
    counter: int
    at: float
    quiet: float = 0.0
    alive_at: float = float("-inf")
