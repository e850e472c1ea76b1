"""Sending workers to SLURM, through submitit, or starting them here; and asking which of them are still there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import submitit
from submitit.slurm.slurm import _make_sbatch_string

from grip_core.errors import UserError
from studies.folder import Study, StudyFolder, append_line, read_lines
from studies.profile import Profile, sbatch_parameters
from studies.slurm import Job, jobs_sent_from, slurm_command
from studies.snapshot import environment
from studies.trainable import load_trainable
from studies.worker import Worker


def arrays(jobs: int, profile: Profile) -> list[tuple[int, int]]:
    """The arrays that so many jobs are sent as: elements, and how many of them may run at a time.

    No array has more than the site's `max_array` elements, and all together run at most `workers` at a time; so there
    are at most so many arrays, and what does not fit is left for `resume`.
    """
    jobs = min(jobs, profile.workers * profile.max_array)
    sizes = [min(profile.max_array, jobs - start) for start in range(0, jobs, profile.max_array)]
    share = [
        max(1, profile.workers * (i + 1) // len(sizes) - profile.workers * i // len(sizes)) for i in range(len(sizes))
    ]
    return [(size, min(size, parallel)) for size, parallel in zip(sizes, share)]


def submit(folder: StudyFolder, study: Study, profile: Profile, jobs: int) -> list[str]:
    """Send so many jobs; their ids. Raises UserError if the scheduler refuses them, or they could share nothing."""
    if profile.runs_per_vlm > 1:
        load_trainable(study.definition.trainable).server(study.params, Path("vlm"))
    if profile.cluster == "local":
        return [_start(folder, study, profile) for _ in range(jobs)]
    slurm_command("sinfo", "--noheader", "--format=%P")  # sbatch would hang if the controller is away
    sent = [_submit_array(folder, study, profile, *array) for array in arrays(jobs, profile)]
    _submit_last(folder, study, profile, sent)
    return sent


def sbatch_text(folder: StudyFolder, name: str, code: str, profile: Profile, elements: int, parallel: int) -> str:
    """The script that an array is sent as, without sending it."""
    parameters = sbatch_parameters(profile, name, environment(folder, code)) | {"array_parallelism": parallel}
    python = profile.python or sys.executable
    command = f"{python} -u -m submitit.core._submit {folder.logs}"
    return _make_sbatch_string(
        command=command, folder=folder.logs, map_count=elements if elements > 1 else None, **parameters
    )


def _submit_array(folder: StudyFolder, study: Study, profile: Profile, elements: int, parallel: int) -> str:
    return _sbatch(folder, study, profile, elements, {"array_parallelism": parallel})


def _submit_last(folder: StudyFolder, study: Study, profile: Profile, after: list[str]) -> None:
    """One more worker once all others have ended, for the trial of one that was lost when nobody was left to see it.

    Where there is no such trial it ends before it loads anything.
    """
    _sbatch(folder, study, profile, 1, {"dependency": "afterany:" + ":".join(after)})


def _sbatch(folder: StudyFolder, study: Study, profile: Profile, elements: int, further: dict[str, Any]) -> str:
    executor = submitit.SlurmExecutor(folder.logs, max_num_timeout=profile.requeues, python=profile.python)
    parameters = sbatch_parameters(profile, study.definition.name, environment(folder, study.code))
    executor.update_parameters(**parameters | further)
    try:
        with executor.batch():
            sent = [executor.submit(Worker(folder.path)) for _ in range(elements)]
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch refused the workers: {_last_line(error)}; check the profile") from None
    job = sent[0].job_id.split("_")[0]
    row = {"cluster": "slurm", "job": job, "elements": elements, "at": time.time(), "last": "dependency" in further}
    append_line(folder.jobs, row)
    return job


def _start(folder: StudyFolder, study: Study, profile: Profile) -> str:
    folder.logs.mkdir(parents=True, exist_ok=True)
    log = folder.logs / f"local-{time.time_ns()}.log"
    variables = {**os.environ, **environment(folder, study.code), **profile.environment}
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "studies", "work", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=variables,
            cwd=study.directory,
            start_new_session=True,  # a Ctrl-C where it was launched is not for it
        )
    append_line(folder.jobs, {"cluster": "local", "job": str(process.pid), "elements": 1, "at": time.time()})
    return str(process.pid)


def active(folder: StudyFolder) -> dict[str, str]:
    """The jobs of the study that run or wait, with their states; not the one that waits for all others' end."""
    rows = read_lines(folder.jobs)
    local = {row["job"]: "RUNNING" for row in rows if row["cluster"] == "local" and _alive(row["job"], folder)}
    last = {row["job"]: row["last"] for row in rows if row["cluster"] == "slurm"}  # the newest line of an id holds
    there = [job for job in _in_slurm(folder) if job.state != "COMPLETING" and not last.get(job.id)]
    return {**{job.name: job.state for job in there}, **local}


def cancel(folder: StudyFolder) -> None:
    """Kill all workers at once; what they were at goes on from its last checkpoint when the study is resumed."""
    # Those on their way out too: one that is being requeued would come back.
    if ids := {job.id for job in _in_slurm(folder)}:
        slurm_command("scancel", *sorted(ids))
    for row in read_lines(folder.jobs):
        if row["cluster"] == "local" and _alive(row["job"], folder):
            os.killpg(int(row["job"]), signal.SIGKILL)  # with the workers that it has started


def _in_slurm(folder: StudyFolder) -> list[Job]:
    """The study's jobs that SLURM has not done with; it is not asked where none was ever sent to it."""
    asked = any(row["cluster"] == "slurm" for row in read_lines(folder.jobs))
    return jobs_sent_from(folder.logs) if asked else []


def _alive(pid: str, folder: StudyFolder) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return str(folder.path) in command and state != "Z"


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
