"""Profiles: what SLURM is asked for, to the letter."""

from __future__ import annotations

from pathlib import Path

import pytest

from grip_core.errors import UserError
from studies.definition import ResourceConfig
from studies.folder import StudyFolder
from studies.jobs import arrays, sbatch_text
from studies.profile import PROFILES, Profile, load_profile
from tests.studies.conftest import ROOT

GOLDEN = """\
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-7%4
#SBATCH --cpus-per-task=8
#SBATCH --error=/shared/toy/logs/%A_%a_0_log.err
#SBATCH --gres=gpu:a100:1
#SBATCH --job-name=grip-toy
#SBATCH --mem=65536M
#SBATCH --nice=100
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/shared/toy/logs/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=low
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=720
#SBATCH --wckey=submitit

# setup
module load cuda/13
export PYTHONPATH="/shared/toy/code/abc"
export PYTHONSAFEPATH="1"
export HF_HOME="$HOME/hf"
ulimit -n 4096

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /shared/toy/logs/%A_%a_%t_log.out --error /shared/toy/logs/%A_%a_%t_log.err \
apptainer exec grip.sif python -u -m submitit.core._submit /shared/toy/logs
"""

FULL = {
    "cluster": "slurm",
    "workers": 4,
    "partition": "gpu",
    "account": "lab",
    "qos": "low",
    "gres": "gpu:a100:1",
    "gpus": 1,
    "cpus": 8,
    "memory_gb": 64.0,
    "minutes": 720,
    "signal_seconds": 180,
    "python": "apptainer exec grip.sif python",
    "modules": ["cuda/13"],
    "environment": {"HF_HOME": "$HOME/hf"},
    "setup": ["ulimit -n 4096"],
    "additional": {"nice": 100},
}


def test_the_script_is_what_the_profile_says():
    """If a change is meant, put what this prints into GOLDEN."""
    text = sbatch_text(StudyFolder(Path("/shared/toy")), "toy", "abc", Profile(**FULL), 8, 4)
    assert text == GOLDEN


@pytest.mark.parametrize(
    ("jobs", "workers", "limit", "expected"),
    [
        (8, 8, 1000, [(8, 8)]),
        (5, 4, 2, [(2, 1), (2, 1), (1, 1)]),
        (10, 10, 4, [(4, 3), (4, 3), (2, 2)]),
        (48, 4, 1000, [(48, 4)]),
        (1, 4, 1000, [(1, 1)]),
    ],
)
def test_arrays_keep_to_the_sites_limit_and_to_the_number_of_workers(jobs, workers, limit, expected):
    found = arrays(jobs, Profile(cluster="slurm", workers=workers, max_array=limit))
    assert found == expected
    assert sum(size for size, _ in found) == jobs
    assert sum(parallel for _, parallel in found) <= max(workers, len(found))


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.yaml")) or ["missing"])
def test_shipped_profiles_are_valid(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_profile(name, ResourceConfig()).workers >= 1


def test_the_studys_own_needs_go_before_the_profiles(monkeypatch):
    monkeypatch.chdir(ROOT)
    profile = load_profile("slurm/profiles/a100.yaml", ResourceConfig(minutes=30, cpus=2))
    assert (profile.minutes, profile.cpus, profile.gpus) == (30, 2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster: slurm\nworkers: 2\npartitoin: gpu\n", "did you mean partition"),
        ("cluster: slurm\nworkers: 2\nqueue: gpu\n", "known here: account, additional, cluster"),
        ("cluster: slurm\nworkers: 0\n", "workers: .*greater than or equal to 1"),
        ("cluster: slurm\nworkers: 1\ngres: gpu:1\n", "gpus must say how many"),
        ("cluster: local\nworkers: 1\npartition: gpu\n", "no scheduler to give partition to"),
        ("", "must hold the keys|top level"),
    ],
)
def test_a_mistake_in_a_profile_is_one_line(tmp_path, text, message):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_profile(str(path), ResourceConfig())
    assert "\n" not in str(error.value)
