"""slurm/dev-cluster boots a SLURM that takes jobs, leaves nothing behind, and says why it does not boot."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.slurm.conftest import NODES, DevCluster, dev_cluster, free_ports, wait_until

pytestmark = pytest.mark.slurm

FOREVER = "--wrap=sleep 1000"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder's name short enough for sockets; nothing is there yet."""
    with tempfile.TemporaryDirectory(prefix="dev-cluster-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # munged refuses a socket that others cannot reach
        yield Path(folder) / "root"
        dev_cluster("down", "--root", Path(folder) / "root")


def processes_of(root: Path) -> list[str]:
    """The command lines of all processes with a cluster's folder in them, in their environment, or in an open file."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parts = [(process / name).read_bytes() for name in ("cmdline", "environ")]
            parts += [os.fsencode(link.readlink()) for link in (process / "fd").iterdir()]
            if any(bytes(root) in part for part in parts):
                found.append(parts[0].decode())
    return found


def test_four_nodes_are_idle(cluster):
    assert cluster.node_states() == dict.fromkeys(NODES, "idle")


def test_each_element_of_an_array_has_a_gpu_of_its_own(cluster, tmp_path):
    # As many as there are GPUs; all are given out at once, long before the first element ends.
    elements = range(1, 9)
    command = "--wrap=echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; sleep 1"
    job = cluster.submit("--array=1-8", "--gres=gpu:1", f"--output={tmp_path}/%a", command)
    wait_until(lambda: cluster.states(job) == ["COMPLETED"] * len(elements))
    devices = {tuple((tmp_path / str(element)).read_text().split()) for element in elements}
    assert devices == {(node, gpu) for node in NODES for gpu in ("0", "1")}


def test_up_again_changes_nothing(cluster):
    job = cluster.submit(FOREVER)
    wait_until(lambda: cluster.states(job) == ["RUNNING"])
    result = dev_cluster("up", "--root", cluster.root, "--port", cluster.port)
    assert result.stdout == f"export SLURM_CONF={cluster.conf}\n", result.stderr
    assert cluster.states(job) == ["RUNNING"]


def test_urgent_preempts_main_with_a_signal_first(cluster, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/bash\ntrap 'echo told; exit' USR2\necho started\nwhile true; do sleep 0.1; done\n")
    log = tmp_path / "log"
    options = ("--array=1-4", "--cpus-per-task=8", "--open-mode=append", f"--output={log}")
    cluster.submit("--signal=B:USR2@30", *options, script)
    wait_until(lambda: log.exists() and log.read_text() == "started\n" * len(NODES))
    job = cluster.submit("--partition=urgent", "--cpus-per-task=8", "--wrap=true")
    wait_until(lambda: cluster.states(job) == ["COMPLETED"])
    assert log.read_text() == "started\n" * len(NODES) + "told\n"


def test_job_outlives_the_daemons_that_started_it(cluster):
    job = cluster.submit("--nodelist=n2", FOREVER)
    wait_until(lambda: cluster.states(job) == ["RUNNING"])
    before = cluster.run("squeue", "-h", "-o", "%i %T %N %S")
    cluster.kill_node("n2")
    cluster.start_node("n2")
    cluster.restart_controller()
    assert cluster.run("squeue", "-h", "-o", "%i %T %N %S") == before


@pytest.mark.slow
def test_job_of_a_lost_node_starts_again_elsewhere(cluster, tmp_path):
    log = tmp_path / "log"
    command = "--wrap=echo $SLURMD_NODENAME $SLURM_RESTART_COUNT; sleep 1000"
    job = cluster.submit("--open-mode=append", f"--output={log}", command)
    wait_until(log.exists)
    wait_until(lambda: log.read_text().endswith("\n"))
    node = log.read_text().strip()
    cluster.kill_node(node, jobs=True)
    wait_until(lambda: log.read_text().count("\n") == 2)
    other, restarts = log.read_text().splitlines()[1].split()
    assert other != node
    assert restarts == "1"
    wait_until(lambda: "NODE_FAIL" in cluster.run("sacct", "-n", "-X", "-D", "-o", "State", "-j", job))


def test_down_leaves_nothing_and_disturbs_no_other(cluster, root):
    other = DevCluster(root, free_ports(4))
    result = dev_cluster("up", "--root", root, "--port", other.port, "--nodes", 1)
    assert result.returncode == 0, result.stderr
    job = other.submit("--wrap=setsid sleep 1000 & sleep 1000")
    wait_until(lambda: other.states(job) == ["RUNNING"])
    other.kill_node("n1")  # its job goes on without it
    assert processes_of(root)
    for _ in range(2):
        result = dev_cluster("down", "--root", root)
        assert result.returncode == 0, result.stderr
        assert not root.exists()
        assert not processes_of(root)
    assert cluster.node_states() == dict.fromkeys(NODES, "idle")


@pytest.mark.parametrize("action", ["up", "down"])
def test_refuses_a_folder_with_foreign_files(root, action):
    root.mkdir()
    (root / "thesis.tex").write_text("ten years")
    assert_refused(dev_cluster(action, "--root", root), "holds files that are no cluster's")
    assert (root / "thesis.tex").read_text() == "ten years"


def test_refuses_a_taken_port(root):
    first = free_ports(7)
    with socket.create_server(("127.0.0.1", first + 4)):
        result = dev_cluster("up", "--root", root, "--port", first)
    assert_refused(result, f"port {first + 4} is taken")
    assert not root.exists()


def test_refuses_another_layout_than_what_runs(cluster):
    result = dev_cluster("up", "--root", cluster.root, "--port", cluster.port, "--nodes", 2)
    assert_refused(result, f"is up with --nodes 4 --port {cluster.port}")


def assert_refused(result: CompletedProcess[str], reason: str) -> None:
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert reason in result.stderr
