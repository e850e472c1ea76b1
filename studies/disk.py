"""Errors that are the file system's fault: they are told to the user, and no trial is blamed for them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from grip_core.errors import UserError
from grip_core.files import write_text

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors that no waiting mends."""
FAULTS = NO_ROOM | {errno.EIO, errno.ESTALE}


def check_disk(error: BaseException, folder: Path) -> None:
    """Raise UserError if an error was the disk's, not the trial's: by its number, or because nothing can be written."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in FAULTS:
            raise disk_error(folder, found) from error
        found = found.__cause__ or found.__context__
    path = folder / f".writable-{os.getpid()}"
    try:
        write_text(path, " " * 65536)
        path.unlink()
    except OSError as failed:
        raise disk_error(folder, failed) from error


def disk_error(place: Path | str, error: OSError) -> UserError:
    """What to raise for an error of the disk that holds `place`."""
    return UserError(
        f"{place} must be writable, but: {error.strerror}; put that right, then `python -m studies resume` goes on "
        "from the last checkpoints"
    )
