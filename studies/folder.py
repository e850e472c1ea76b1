"""A study's files: the only place that knows their names.

study.json               definition, params, profile, storage, code, where and when it was launched
definition.yaml          the definition for people, and for launching it again
params.yaml              the params likewise
journal.log              the trials, where the storage is a journal file
lock                     held while a trial is taken
stop                     while it exists, workers stop at their next safe boundary
code/<hash>/             the code that its workers run
jobs.jsonl               one line a submission
logs/                    what jobs print, and submitit's own files
workers/<id>.json        one file a worker process: where it runs, since when, how long it worked
trials/<number>/         lease.json and its lock; attempt-<n>/seed-<s>/ are run folders (grip_core/runs.py), and so is
                         attempt-<n>/warmup/, where an arm has its own
export/                  the tidy table and its manifest
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from grip_core.config import Params, parse
from grip_core.errors import UserError
from grip_core.files import write_text
from studies.definition import Definition

ROOT = Path("artifacts/studies")


@dataclass(frozen=True)
class Study:
    """What a study was launched as. Workers and commands read it, and nothing else, of the user's files."""

    definition: Definition
    params: Params
    profile: dict[str, Any]
    storage: str
    """An absolute path of a journal file, or a database's URL."""
    code: str
    """The folder under code/."""
    directory: str
    """Where it was launched: the repository's root, to which data and model are relative."""
    launched_at: float
    """Unix time of the first launch."""
    provenance: dict[str, Any]


class StudyFolder:
    """Where one study's files are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "study.json"
        self.journal = path / "journal.log"
        self.lock_path = path / "lock"
        self.stop_flag = path / "stop"
        self.jobs = path / "jobs.jsonl"
        self.logs = path / "logs"
        self.workers = path / "workers"
        self.trials = path / "trials"
        self.export = path / "export"

    def code(self, name: str) -> Path:
        return self.path / "code" / name

    def trial(self, number: int) -> Path:
        return self.trials / str(number)

    def lease(self, number: int) -> Path:
        return self.trial(number) / "lease.json"

    def attempt(self, number: int, attempt: int) -> Path:
        return self.trial(number) / f"attempt-{attempt}"

    def run(self, number: int, attempt: int, seed: int) -> Path:
        return self.attempt(number, attempt) / f"seed-{seed}"

    def newest_run(self, number: int, seed: int) -> Path:
        """The run of a trial's seed in the last attempt that began; it need not exist."""
        attempts = [int(path.name.removeprefix("attempt-")) for path in self.trial(number).glob("attempt-*")]
        return self.run(number, max(attempts, default=1), seed)

    def worker(self, name: str) -> Path:
        return self.workers / f"{name}.json"

    def lock(self) -> FileLock:
        """Taking a trial: whoever holds it alone decides which trials there are and whose they are."""
        return FileLock(self.lock_path)

    @property
    def exists(self) -> bool:
        return self.record.exists()

    def read(self) -> Study:
        """Raises UserError if there is no study, or its record is damaged."""
        try:
            raw = json.loads(self.record.read_text())
        except FileNotFoundError:
            raise UserError(f"there is no study in {self.path}; launch it first, or name its root by --root") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{self.record} is damaged ({error}); restore it from a backup") from None
        definition = parse(Definition, raw.pop("definition"), str(self.record))
        return Study(definition=definition, params=parse(Params, raw.pop("params"), str(self.record)), **raw)

    def write(self, study: Study) -> None:
        raw = {**vars(study), "definition": study.definition.model_dump(), "params": study.params.model_dump()}
        write_text(self.record, json.dumps(raw, indent=1))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line, but for a line that is just being written; none if it does
    not exist."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Add one JSON object as a line."""
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
