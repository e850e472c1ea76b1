"""Questions to SLURM: which jobs there are, and what became of one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from grip_core.errors import UserError

PATIENCE = 20.0
"""Seconds for a SLURM command: they hang for ever while the controller is away."""

FATES = {"OUT_OF_MEMORY": "out of memory", "TIMEOUT": "time-out", "NODE_FAIL": "lost node"}
"""A failure's cause by the state that accounting has for its job."""


def slurm_command(*command: str, patience: float = PATIENCE) -> str:
    """What a SLURM command prints. Raises UserError if it fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=patience).stdout
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} was not found, but SLURM's commands are needed for this; go to one of its login nodes"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} did not answer within {patience:g} s; is SLURM's controller up?") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"{' '.join(command)} failed: {error.stderr.strip()}") from None


@dataclass(frozen=True)
class Job:
    """A job, or an element of an array, that SLURM has not done with."""

    id: str
    """Of an element, the array's."""
    name: str
    state: str


def jobs_sent_from(scripts: Path) -> list[Job]:
    """The user's jobs whose script lies in that folder, those on their way out included.

    Ids do not tell: a controller that crashes forgets its last jobs, and gives their ids to the next that come.
    """
    lines = slurm_command("squeue", "--noheader", "--array", "--me", "--format=%F|%i|%T|%o").splitlines()
    found = (line.split("|", maxsplit=3) for line in lines)
    folder = scripts.resolve()
    return [Job(id_, name, state) for id_, name, state, script in found if Path(script).parent.resolve() == folder]


def fate(job: str) -> str:
    """What became of the job of a lost worker, as a failure's cause: "lost" where accounting does not tell."""
    if not job.startswith("slurm-"):
        return "lost"
    try:
        command = ("sacct", "--noheader", "--allocations", "--duplicates", "--parsable2", "--format=State")
        states = slurm_command(*command, "--jobs", job.removeprefix("slurm-"), patience=5.0).split()
    except UserError:  # a site without accounting
        return "lost"
    known = [FATES[state] for state in states if state in FATES]
    return known[-1] if known else "lost"
