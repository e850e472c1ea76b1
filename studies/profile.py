"""What a cluster wants to know of a job: the schema of slurm/profiles/*.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from grip_core.config import Count, Section, parse, read_yaml
from grip_core.errors import UserError
from studies.definition import Positive, ResourceConfig

PROFILES = Path("slurm/profiles")


class Profile(Section):
    """Where and how workers run. Every key but `cluster` and `workers` may be left out."""

    cluster: Literal["local", "slurm"]
    workers: Count
    """How many jobs run at the same time; each is a worker, or `runs_per_vlm` of them."""
    runs_per_vlm: Count = 1
    """Workers in a job that share one frozen VLM, which then is a process of its own. With 1 each worker loads it."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    """As "gpu:a100:1"; in place of `gpus` where the site wants a kind named."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Per job, as `cpus` and `memory_gb` are; what GPU-hours are counted by."""
    cpus: Count = 1
    memory_gb: Positive | None = None
    minutes: Count = 24 * 60
    """Time limit of a job; one that reaches it is requeued and goes on."""
    signal_seconds: Count = 120
    """How long before the time limit a worker is told to checkpoint. Before a pre-emption it is the partition's
    GraceTime, which should be longer than a few steps of training."""
    max_array: Count = 1000
    """The site's limit on an array's elements; more workers are sent as several arrays."""
    requeues: Count = 1000
    """How often a worker may reach its time limit."""
    python: str | None = None
    """Command that starts python on a node, a container's for example; this python where it is left out."""
    modules: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    setup: list[str] = Field(default_factory=list)
    """Shell lines before python starts."""
    additional: dict[str, str | int] = Field(default_factory=dict)
    """Further sbatch options by their long names."""

    @model_validator(mode="after")
    def _local_has_no_site(self):
        site = ("partition", "account", "qos", "constraint", "gres", "modules", "additional", "python", "setup")
        given = [name for name in site if getattr(self, name)]
        if self.cluster == "local" and given:
            raise ValueError(f"a local profile has no scheduler to give {', '.join(given)} to; remove it")
        return self

    @model_validator(mode="after")
    def _gpus_once(self):
        if self.gres and not self.gpus:
            raise ValueError(
                f"gpus must say how many GPUs gres stands for, by which GPU-hours are counted, but got "
                f"gres={self.gres} and gpus=0"
            )
        return self


def load_profile(name: str, resources: ResourceConfig) -> Profile:
    """The profile of that path, or of that name under slurm/profiles, with the study's own needs on top.

    Raises UserError, one line a mistake.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.exists():
        known = sorted(found.stem for found in PROFILES.glob("*.yaml"))
        raise UserError(f"there is no profile {path}; known: {', '.join(known) or 'none'}")
    profile = parse(Profile, read_yaml(path), str(path))
    if resources.gpus is not None and profile.gres is not None:
        raise UserError(
            f"{path}: resources.gpus of a study cannot change gres={profile.gres}, but got {resources.gpus}; take a "
            "profile with gpus in place of gres"
        )
    return parse(Profile, profile.model_dump() | resources.model_dump(exclude_none=True), str(path))


def sbatch_parameters(profile: Profile, name: str, environment: dict[str, str]) -> dict[str, Any]:
    """The profile in submitit's words. `environment` is set in the job before python starts."""
    exports = [f"export {key}={_quoted(value)}" for key, value in {**environment, **profile.environment}.items()]
    parameters: dict[str, Any] = {
        "job_name": f"grip-{name}",
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "gres": profile.gres,
        "gpus_per_node": None if profile.gres else profile.gpus or None,
        "cpus_per_task": profile.cpus,
        "ntasks_per_node": 1,
        "nodes": 1,
        "mem": None if profile.memory_gb is None else f"{round(profile.memory_gb * 1024)}M",
        "time": profile.minutes,
        "signal_delay_s": profile.signal_seconds,
        "array_parallelism": profile.workers,
        "setup": [*(f"module load {module}" for module in profile.modules), *exports, *profile.setup],
        "additional_parameters": {**profile.additional, "requeue": True},
    }
    return {key: value for key, value in parameters.items() if value is not None}


def _quoted(value: str) -> str:
    """In double quotes, so that $HOME and the like still work."""
    return '"' + value.replace('"', '\\"') + '"'
