"""The run folder: the interface between a run and everything that reads it.

config.json        what the run was asked to do, and the hashes of what it read
environment.json   versions, machine, git commit
metrics.jsonl      one JSON object a line, each with "step"; the same for a resumed run as for an uninterrupted one
status.json        running or finished, and the step of the last checkpoint
timing.json        wall time by part since the last start (kept apart from the metrics, for it is never the same twice)
collapse.json      only if it has collapsed: the step and the cause
checkpoints/       while it runs
scorer/            the trained scorer, once finished
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from grip_core.errors import UserError
from grip_core.files import write_text

PACKAGES = ("torch", "transformers", "trl", "accelerate", "datasets", "numpy", "pandas", "tokenizers", "scikit-learn")
OURS = ("grip_core", "pipeline", "studies")


class RunFolder:
    """A run's files. Opening a folder whose `config.json` is another run's empties it.

    Raises UserError if the folder holds files but no run.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self._name(path)
        text = json.dumps(config, indent=1, sort_keys=True, default=str)
        found = _read(path / "config.json")
        # What a kill or a full disk leaves before there is a config is hidden: a file half written.
        if found is None and path.exists() and any(not file.name.startswith(".") for file in path.iterdir()):
            raise UserError(f"{path} holds files but no run; a run needs a folder of its own, so name another one")
        if found is not None and found != text:
            shutil.rmtree(path)
        if self.finished:
            return
        write_text(path / "config.json", text)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_text(path / "environment.json", json.dumps(environment(), indent=1))
        self.set_status("running", 0)

    def _name(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.scorer = path / "scorer"
        self.collapse_path = path / "collapse.json"

    @property
    def finished(self) -> bool:
        status = _read(self.path / "status.json")
        return status is not None and json.loads(status)["state"] == "finished"

    def set_status(self, state: str, step: int) -> None:
        write_text(self.path / "status.json", json.dumps({"state": state, "step": step}))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append one row and flush it; `row` must have "step"."""
        with open(self.metrics_path, "a") as file:
            file.write(json.dumps(row) + "\n")

    def sync_metrics(self) -> None:
        """Bring all rows to the disk: a checkpoint must not outlive the rows before it."""
        with open(self.metrics_path, "a") as file:
            os.fsync(file.fileno())

    def drop_metrics_after(self, step: int) -> None:
        """Forget rows written after the checkpoint that a run resumes from, and a row cut off by a crash."""
        text = _read(self.metrics_path) or ""
        kept = [line for line in text.split("\n")[:-1] if json.loads(line)["step"] <= step]
        write_text(self.metrics_path, "".join(line + "\n" for line in kept))

    def metrics(self) -> list[dict[str, Any]]:
        """All rows so far, without one that is just being written or was cut off by a crash."""
        return [json.loads(line) for line in (_read(self.metrics_path) or "").split("\n")[:-1]]

    def metrics_at(self, step: int) -> dict[str, Any] | None:
        """The row of that step, or the last one of a run that ended before it; None if the run has yet to get there."""
        rows = self.metrics()
        found = next((row for row in rows if row["step"] == step), None)
        return rows[-1] if found is None and self.finished else found

    @property
    def collapsed(self) -> bool:
        """Whether the run was flagged as collapsed."""
        return self.collapse_path.exists()

    def set_collapse(self, step: int, cause: str) -> None:
        """Flag the run as collapsed."""
        write_text(self.collapse_path, json.dumps({"step": step, "cause": cause}))

    def clear_collapse(self) -> None:
        """Forget the flag: a run that resumes judges its rows again."""
        self.collapse_path.unlink(missing_ok=True)

    def finish(self, step: int, timing: dict[str, float]) -> None:
        """Mark the run finished; its checkpoints have served."""
        write_text(self.path / "timing.json", json.dumps(timing, indent=1))
        self.set_status("finished", step)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


class OnlookersFolder(RunFolder):
    """The same files for the other processes of a run that is several: they read them, and write nothing."""

    def __init__(self, path: Path) -> None:
        self._name(path)
        self._collapsed = False

    def set_status(self, state: str, step: int) -> None: ...

    def append_metrics(self, row: dict[str, Any]) -> None: ...

    def sync_metrics(self) -> None: ...

    def drop_metrics_after(self, step: int) -> None: ...

    @property
    def collapsed(self) -> bool:
        """As this process has found itself, from the same numbers."""
        return self._collapsed

    def set_collapse(self, step: int, cause: str) -> None:
        self._collapsed = True

    def clear_collapse(self) -> None:
        self._collapsed = False

    def finish(self, step: int, timing: dict[str, float]) -> None: ...


def environment() -> dict[str, Any]:
    """Versions, machine and commit, for provenance."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "git_commit": git("rev-parse", "HEAD") or None,
        "git_dirty": bool(git("status", "--porcelain", "-uno")),
        "packages": _versions(),
    }


def code_fingerprint() -> str:
    """Hash of every module of ours loaded so far and of the packages' versions: numbers of other code are another
    run's."""
    digest = hashlib.sha256(json.dumps(_versions()).encode())
    for name in sorted(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if name.split(".")[0] in OURS and file:
            digest.update(name.encode() + Path(file).read_bytes())
    return digest.hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """One SHA-256 over the contents of files, in sorted order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        with path.open("rb") as file:  # in parts, for it may be larger than the memory
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


def git(*arguments: str) -> str:
    """What git says; nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _processor() -> str:
    info = _read(Path("/proc/cpuinfo")) or ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
