"""Where trials are kept: a journal file on a shared file system, or PostgreSQL by its URL; the same code for both."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, DBAPIError

from grip_core.errors import UserError
from studies.disk import NO_ROOM, disk_error

AWAY = (StorageInternalError, DBAPIError, OSError)
"""What a storage that is away for a while raises."""
PATIENCE = 3600.0
"""Seconds for which a worker waits for its storage: what it has done is safe in files meanwhile."""

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def is_journal(storage: str) -> bool:
    """Whether the storage is a journal file rather than a database."""
    return "://" not in storage


def open_storage(storage: str) -> BaseStorage:
    """Open a storage. Raises UserError if a journal is damaged, StorageAway if a database cannot be reached."""
    if is_journal(storage):
        path = Path(storage)
        if not path.is_absolute():
            raise UserError(f"a journal needs an absolute path, for workers run elsewhere, but got {storage}")
        check_journal(path)
        return JournalStorage(WholeLines(str(path)))
    try:
        # Connections that the server has dropped are opened anew instead of failing the trial.
        return RDBStorage(storage, engine_kwargs={"pool_pre_ping": True, "pool_size": 2})
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is needed for {_shown(storage)}; install it: pip install -e '.[postgresql]'"
        ) from None
    except (DBAPIError, StorageInternalError) as error:
        raise StorageAway(f"the storage {_shown(storage)} cannot be reached: {_first_line(error)}; is it up?") from None
    except (ValueError, ArgumentError, ImportError) as error:
        raise UserError(f"the storage must be a path or a database's URL, but got {_shown(storage)}: {error}") from None


class StorageAway(UserError):
    """The storage cannot be reached, or did not come back within the patience."""


class WholeLines(JournalFileBackend):
    """A journal that never goes on after half a line.

    Optuna's appends whatever comes next to it, and then no later load can read the file.
    """

    def append_logs(self, logs: list[dict]) -> None:
        """Append, or leave the file as it was. Raises UserError if it ends in half a line."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        path = Path(self._file_path)
        self._lock.acquire()
        try:
            size = path.stat().st_size
            if size and _read_from(path, size - 1) != b"\n":
                raise _damaged(path)
            # To the end, wherever it is by now: a lock that stood for 30 s is broken by others.
            with open(path, "ab", buffering=0) as file:
                try:
                    file.write(text)
                    os.fsync(file.fileno())
                except OSError:
                    # A full disk may have taken a part of it; whatever else came meanwhile stays.
                    if text.startswith(_read_from(path, size)):
                        os.truncate(path, size)
                    raise
        finally:
            self._lock.release()


def _read_from(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read()


def check_journal(path: Path) -> None:
    """Raise UserError if a line of the journal is not whole, naming the line and the way out."""
    if damage(path) is not None:
        raise _damaged(path)


def _damaged(path: Path) -> UserError:
    line, offset = _first_damage(path) or (0, 0)
    return UserError(
        f"{path} is damaged at line {line} (byte {offset}): every line must be one whole JSON object; stop the "
        "workers, then `python -m studies recover` keeps the lines before it and puts a copy of the file aside"
    )


def damage(path: Path) -> tuple[int, int] | None:
    """The first line that is not whole, and the byte that it begins at; None if all are."""
    place = _first_damage(path)
    while place is not None:
        time.sleep(0.3)  # another process may just be writing it
        again = _first_damage(path)
        if again == place:
            break
        place = again
    return place


def _first_damage(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line)
            except ValueError:
                return number, offset
            if not line.endswith(b"\n"):
                return number, offset
            offset += len(line)
    return None


def recover_journal(path: Path) -> Path | None:
    """Keep the lines before the damage and put the whole file aside; None if it was whole."""
    place = damage(path)
    if place is None:
        return None
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    shutil.copyfile(path, aside)
    os.truncate(path, place[1])
    return aside


def check_locking(folder: Path) -> None:
    """Raise UserError if a file under `folder` can be locked twice: then trials would be taken twice.

    Tried on this machine; that locks of one node hold on another is read off the options of the mount.
    """
    kind, options = _mount(folder)
    local = {"nolock", "localflock", "local_lock=all", "local_lock=flock"} & options
    if local:
        raise UserError(
            f"{folder} is mounted ({kind}) with {', '.join(sorted(local))}: a lock of one node would hold on that node "
            "alone; mount it with locking, or choose another place: --root"
        )
    path = folder / ".locking"
    try:
        with FileLock(path):
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                return
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"files in {folder} cannot be locked ({error}); put the studies on another file system: --root"
        ) from None
    finally:
        path.unlink(missing_ok=True)
    raise UserError(f"locks in {folder} exclude nobody; mount it with locking, or choose another place: --root")


def _mount(folder: Path) -> tuple[str, set[str]]:
    """The kind of file system that a folder lies on, and the options it is mounted with."""
    place = folder.resolve()
    rows = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    mounts = {Path(row[1].replace("\\040", " ")): (row[2], set(row[3].split(","))) for row in rows}
    return next((mounts[path] for path in (place, *place.parents) if path in mounts), ("unknown", set()))


def ride_out(
    what: str,
    action: Callable[[], Result],
    stopping: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
) -> Result:
    """Do something with the storage, again and again while it is away. `action` must bear to be done twice.

    Raises StorageAway once the patience is at its end, or once the worker is to stop, and UserError if a disk is full
    or read-only.
    """
    deadline = time.monotonic() + patience
    pause = 0.5
    while True:
        try:
            return action()
        except (*AWAY, StorageAway) as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise disk_error(f"{what}: {error.filename or 'the journal'}", error) from error
            if time.monotonic() > deadline or stopping():
                raise StorageAway(f"{what}: the storage is away, this worker stops: {_first_line(error)}") from error
            logger.warning("%s: the storage is away (%s); trying again", what, _first_line(error))
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def load_study(name: str, storage: str) -> optuna.Study:
    """Open an existing study. Raises UserError if the storage has none of that name."""
    try:
        return optuna.load_study(study_name=name, storage=open_storage(storage))
    except KeyError:
        raise UserError(f"{_shown(storage)} holds no study {name}; launch it first") from None


def _shown(storage: str) -> str:
    """A URL without its password."""
    if "@" not in storage:
        return storage
    head, tail = storage.rsplit("@", 1)
    scheme, _, user = head.partition("://")
    return f"{scheme}://{user.split(':')[0]}@{tail}"


def _first_line(error: BaseException) -> str:
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
