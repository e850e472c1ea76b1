"""Whose trial it is: a file in the trial's folder, never an attribute in the storage.

A worker that has taken a trial raises the lease's counter while it lives. Another that sees the counter stand still
takes the trial over under a new token, in a new attempt's folder; whoever lost the token can write nothing that counts.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
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
    owner: Identity
    seconds: float = 0.0
    """How long the trial has been worked on, in all its attempts."""
    released: bool = False
    """Put down on purpose: anyone may go on at once."""


def new_lease(owner: Identity, before: Lease | None = None, lost: bool = False) -> Lease:
    """The lease of the next attempt; `lost` counts the one before as a lost worker."""
    token = uuid.uuid4().hex
    if before is None:
        return Lease(token, 0, 1, 0, owner)
    return Lease(token, 0, before.attempt + 1, before.losses + lost, owner, before.seconds)


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

    def __init__(self, path: Path, lease: Lease, beat: float) -> None:
        self.path, self.lease, self.beat = path, lease, beat
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
    def owned(self):
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

    def release(self) -> None:
        """Put the trial down for anyone to go on."""
        with self.owned() as found:
            write_lease(self.path, replace(found, released=True, seconds=self.seconds))

    def _run(self) -> None:
        while not self._done.wait(self.beat):
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
        self.grace, self.longest_gap = grace, 2 * poll
        self._seen: dict[Path, _Seen] = {}

    def expired(self, path: Path, lease: Lease, now: float) -> bool:
        """Look at a lease at monotonic time `now`; true once it has stood still for the grace."""
        before = self._seen.get(path, _Seen(lease.token, lease.counter, now))
        moved = (before.token, before.counter) != (lease.token, lease.counter)
        gap = now - before.at
        quiet = 0.0 if moved else before.quiet + min(gap, self.longest_gap)
        # A counter that moved since the last look, long ago, does not tell whether it still moves.
        alive_at = now if moved and gap <= self.longest_gap else before.alive_at
        self._seen[path] = _Seen(lease.token, lease.counter, now, quiet, alive_at)
        return quiet >= self.grace

    def alive(self, path: Path, now: float) -> bool:
        """Whether the lease was seen to move within the last two beats."""
        return path in self._seen and now - self._seen[path].alive_at <= 2 * self.longest_gap


@dataclass(frozen=True)
class _Seen:
    """A lease as it was at the last look."""

    token: str
    counter: int
    at: float
    quiet: float = 0.0
    alive_at: float = float("-inf")
