"""Checkpoints that are whole or do not count."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

from grip_core.files import write_text

SEAL = "sealed.json"
logger = logging.getLogger(__name__)


def seal(folder: Path) -> None:
    """Write down every file's hash, last of all: a checkpoint without a seal, or that differs from it, was cut off."""
    write_text(folder / SEAL, json.dumps(_hashes(folder), indent=1))


def newest(root: Path) -> Path | None:
    """The newest intact `checkpoint-<step>` under `root`; damaged newer ones are removed with a warning."""
    folders = sorted(root.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for folder in folders:
        if _intact(folder):
            return folder
        logger.warning("checkpoint %s is damaged or incomplete; falling back to the one before", folder)
        shutil.rmtree(folder)
    return None


def _intact(folder: Path) -> bool:
    path = folder / SEAL
    if not path.exists():
        return False
    try:
        expected = json.loads(path.read_text())
    except json.JSONDecodeError:
        return False
    return expected == _hashes(folder)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
