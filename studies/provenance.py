"""Where a trial's numbers come from: code, data, machine, job."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import sys
from importlib import metadata
from typing import Any

from grip_core.runs import environment, git
from studies.folder import Study


def at_launch(code: str) -> dict[str, Any]:
    """The state of the repository that the study was launched from. The diff itself lies in the snapshot."""
    return {
        "git_commit": git("rev-parse", "HEAD") or None,
        "git_diff_sha256": hashlib.sha256(git("diff", "HEAD").encode()).hexdigest(),
        "code": code,
    }


def of_worker(fingerprint: dict[str, Any], job: str) -> dict[str, Any]:
    """Machine and job of this process, and the hashes of the data and the model that it opened."""
    here = environment()
    return {
        "packages": {**here["packages"], **{name: metadata.version(name) for name in ("optuna", "submitit")}},
        "python": here["python"],
        "processor": here["processor"],
        "data_sha256": digest(fingerprint),
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "job": job,
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        "gpu": gpu_name(),
    }


def of_trial(study: Study, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What belongs to one trial alone."""
    return {
        **study.provenance,
        "params_sha256": digest({"params": study.params.model_dump(), "settings": settings}),
        "seeds": study.definition.seeds,
        "seconds": round(seconds, 3),
        # Of the worker so far, its earlier trials included: neither can be set back for the process.
        "worker_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "worker_peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20) if (torch := _cuda()) else None,
    }


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def gpu_name() -> str | None:
    """The GPU that this process sees, if it has loaded torch."""
    torch = _cuda()
    return torch.cuda.get_device_name() if torch else None


def _cuda() -> Any:
    """torch, if it is loaded and sees a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
