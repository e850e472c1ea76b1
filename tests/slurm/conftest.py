"""A real SLURM and a real PostgreSQL, each started once a session; see slurm/dev-cluster for what they need."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "dev-cluster"
NODES = ("n1", "n2", "n3", "n4")
PATIENCE = 60.0  # seconds; SLURM takes some twenty to miss a node


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs the cluster unless it is asked for: it runs as root and boots daemons."""
    if "slurm" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(
                pytest.mark.skip(reason="needs the development cluster: make slurm-test, or pytest -m slurm")
            )


def dev_cluster(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run slurm/dev-cluster, whatever comes of it."""
    command = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def free_ports(count: int) -> int:
    """The first of a row of free ports, below those that the system gives to clients of its own accord."""
    for _ in range(100):
        first = random.randrange(20000, 30000)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} free ports in a row between 20000 and 30000")


def wait_until(condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout:.0f} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class DevCluster:
    """A cluster of four nodes and what tests do to it."""

    root: Path
    port: int

    @property
    def conf(self) -> Path:
        return self.root / "etc" / "slurm.conf"

    def run(self, *command: object, timeout: float = PATIENCE) -> str:
        """What a SLURM command prints; fails with what it complains of."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        result = subprocess.run(
            [*map(str, command)], env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert result.returncode == 0, f"{' '.join(map(str, command))}: {result.stdout}{result.stderr}"
        return result.stdout

    def submit(self, *options: object) -> str:
        """The id of a new job; its output goes where the options say, else nowhere."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options).strip()

    def states(self, job: str) -> list[str]:
        """The states that accounting has for a job, one an array element; they come a moment after the fact."""
        return self.run("sacct", "-n", "-X", "-P", "-o", "State", "-j", job).split("\n")[:-1]

    def node_states(self) -> dict[str, str]:
        """The state of each node; a star at its end says that the node does not answer."""
        lines = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        return dict(line.split() for line in lines)

    def kill_node(self, name: str, jobs: bool = False) -> None:
        """Kill a node's daemon. Its jobs run on unseen, unless they are killed with it.

        SLURM takes some twenty seconds to miss the node. If the node is started before, jobs killed with it count as
        running for minutes.
        """
        self._change("kill", name, *(["--jobs"] if jobs else []))

    def start_node(self, name: str) -> None:
        """Start a killed node, and wait until it takes jobs."""
        self._change("start", name)

    def kill_controller(self) -> None:
        """Kill slurmctld. Started again it knows what it had saved, which may be five seconds old or more.

        Jobs submitted since then are lost; cancelled ones run again. `saved` makes sure of what it will know.
        """
        self._change("kill", "slurmctld")

    def saved(self) -> bytes:
        """The controller's file of jobs, as soon as it holds all that the controller knows now."""
        mark = uuid.uuid4().hex
        job = self.submit("--hold", f"--comment={mark}", "--wrap=true")
        wait_until(lambda: mark.encode() in self._jobs_on_disk())
        self.run("scancel", job)
        return self._jobs_on_disk()

    def forget_since(self, saved: bytes) -> None:
        """Make a killed controller begin from what `saved` gave, as if it had been killed before it saved again."""
        self._job_state.write_bytes(saved)

    def stop_controller(self) -> None:
        """Stop slurmctld. It saves its state first."""
        self._change("stop", "slurmctld")

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it and the nodes that run answer."""
        self._change("start", "slurmctld")

    def restart_controller(self) -> None:
        self.stop_controller()
        self.start_controller()

    def reset(self) -> None:
        """Start what a test killed, and cancel the jobs that it left."""
        if dev_cluster("up", "--root", self.root, "--port", self.port).returncode != 0:
            self.start_controller()
            for name in NODES:
                self.start_node(name)
        self.run("scancel", "--user=root")
        wait_until(lambda: not self.run("squeue", "-h") and not self.has_steps())
        for name, state in self.node_states().items():
            if state.startswith(("down", "drain")):  # as a job's second copy does it to its node
                self.run("scontrol", "update", f"nodename={name}", "state=resume")
        wait_until(lambda: self.node_states() == dict.fromkeys(NODES, "idle"))

    def has_steps(self) -> bool:
        """Whether anything of a job is left on a node, whatever the controller knows of it."""
        return f"{self.root}/spool/" in Path("/proc/net/unix").read_text()  # every step listens at a socket there

    @property
    def _job_state(self) -> Path:
        return self.root / "state" / "job_state"

    def _jobs_on_disk(self) -> bytes:
        try:
            return self._job_state.read_bytes()
        except FileNotFoundError:  # a new one is just being put in its place, or there was none yet
            return b""

    def _change(self, action: str, *arguments: str) -> None:
        result = dev_cluster(action, "--root", self.root, *arguments)
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    """A cluster that the whole session shares, this process's SLURM commands included."""
    root = Path(tempfile.mkdtemp(prefix="dev-cluster-", dir="/tmp"))  # pytest's own folders are too long for sockets
    cluster = DevCluster(root, free_ports(3 + len(NODES)))
    try:
        result = dev_cluster("up", "--root", root, "--port", cluster.port)
        assert result.returncode == 0, result.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(cluster.conf))
            yield cluster
    finally:
        result = dev_cluster("down", "--root", root)
        assert result.returncode == 0, result.stderr


@pytest.fixture(autouse=True)
def _whole_and_empty(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves the shared cluster as the next one expects it."""
    if "cluster" not in request.fixturenames:
        yield
        return
    cluster = request.getfixturevalue("cluster")
    yield
    cluster.reset()


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server and what tests do to it."""

    root: Path
    port: int

    def url(self) -> str:
        """The address of a fresh, empty database; starts the server if a test has stopped it."""
        return self._call("up")

    def start(self) -> None:
        """Start it and wait until it answers; does nothing if it runs."""
        self._call("start")

    def stop(self) -> None:
        """Stop it, its clients' connections included; does nothing if it does not run."""
        self._call("stop")

    def down(self) -> None:
        self._call("down")

    def _call(self, action: str) -> str:
        command = [str(SCRIPT.with_name("dev-postgres")), action, "--root", str(self.root), "--port", str(self.port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that the whole session shares; a test takes a database of its own from it."""
    server = Postgres(Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp")), free_ports(1))
    try:
        yield server
    finally:
        server.down()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
