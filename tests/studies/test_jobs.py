"""Which of SLURM's jobs are a study's: told by where their script lies, for SLURM may give an id twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.folder import StudyFolder, append_line
from studies.jobs import active, cancel

FOREIGN = "/elsewhere/toy/logs/a.sh"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> StudyFolder:
    """A study whose SLURM prints the file `queue`, and notes what is cancelled in the file `cancelled`."""
    for name, action in {"squeue": f"cat {tmp_path}/queue", "scancel": f'echo "$@" >> {tmp_path}/cancelled'}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{action}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    study = StudyFolder(tmp_path / "toy")
    study.path.mkdir()
    return study


def sent(folder: StudyFolder, job: str, last: bool = False) -> None:
    append_line(folder.jobs, {"cluster": "slurm", "job": job, "elements": 2, "at": 0.0, "last": last})


def queue(folder: StudyFolder, *rows: tuple[str, str, str, Path | str]) -> None:
    (folder.path.parent / "queue").write_text("".join("|".join(map(str, row)) + "\n" for row in rows))


def cancelled(folder: StudyFolder) -> str:
    path = folder.path.parent / "cancelled"
    return path.read_text() if path.exists() else ""


def test_workers_are_the_jobs_of_the_studys_scripts(folder):
    sent(folder, "7")
    sent(folder, "8", last=True)
    script = folder.logs / "a.sh"
    queue(
        folder,
        ("7", "7_0", "RUNNING", script),
        ("7", "7_1", "COMPLETING", script),
        ("8", "8", "PENDING", script),
        ("9", "9", "RUNNING", FOREIGN),
        ("10", "10", "RUNNING", "(null)"),
        ("11", "11", "RUNNING", ""),
    )
    assert active(folder) == {"7_0": "RUNNING"}
    cancel(folder)
    assert cancelled(folder) == "7 8\n"


def test_an_id_that_slurm_has_given_to_another_job_is_no_worker(folder):
    sent(folder, "7")
    queue(folder, ("7", "7", "RUNNING", FOREIGN))
    assert active(folder) == {}
    cancel(folder)
    assert cancelled(folder) == ""


def test_an_id_that_came_twice_is_what_it_was_sent_as_last(folder):
    for last in (True, False):
        sent(folder, "7", last)
    queue(folder, ("7", "7", "RUNNING", folder.logs / "a.sh"))
    assert active(folder) == {"7": "RUNNING"}
