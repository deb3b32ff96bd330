"""A Ray cluster on this machine: nodes with an environment and processes of their own, which can be killed.

The environment has lldeg's dependencies and not lldeg, as the nodes of a cluster do.
"""

import json
import os
import socket
import subprocess
import sysconfig
import time
import urllib.request
import venv
from dataclasses import dataclass, field
from pathlib import Path

from standin import preloaded
from standin.command import ROOT
from standin.watchdog import MARK, end_all

START = "from ray.scripts.scripts import main; main()"  # the command `ray`
NODE = "LLDEG_NODE"  # marks the processes of a node
STARTED = "This command will now block"
SECONDS_TO_WAIT = 300


def bare_environment(folder):
    """An environment that finds every package of this one but lldeg's own; returns its bin folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def free_ports(count):
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Cluster:
    """A head, and nodes as they are added.

    Args:
        folder: a short path, for Ray's sockets lie below it.
        head: arguments of `ray start` for the head.
    """

    folder: Path
    head: tuple = ("--num-cpus=2",)
    token: str = field(default_factory=lambda: os.environ[MARK])
    nodes: dict = field(default_factory=dict)
    killed: int = 0

    def __post_init__(self):
        assert os.environ.get("RAY_TMPDIR") != os.devnull, "mark this test with pytest.mark.ray"
        self._bin = bare_environment(self.folder / "env")
        self.gcs_port, self.job_port, self.client_port = free_ports(3)
        own = [f"--port={self.gcs_port}", f"--ray-client-server-port={self.client_port}"]
        own += [f"--dashboard-port={self.job_port}", f"--temp-dir={self.folder}"]
        self.add("head", "--head", *own, *self.head)

    @property
    def environment(self):
        """Variables that whoever talks to the cluster needs."""
        return {"RAY_AUTH_TOKEN": self.token}

    @property
    def gcs(self):
        """Address for drivers on its machines."""
        return f"{self._ip}:{self.gcs_port}"

    @property
    def jobs(self):
        """Address of its job server."""
        return f"http://127.0.0.1:{self.job_port}"

    @property
    def client(self):
        """Address for drivers elsewhere."""
        return f"ray://127.0.0.1:{self.client_port}"

    @property
    def _ip(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 1))  # sends nothing
            except OSError:
                return "127.0.0.1"
            return probe.getsockname()[0]

    def add(self, name, *arguments, before=None):
        """Start a node and wait until it belongs to the cluster; its paths begin with those of `before`."""
        join = arguments if "--head" in arguments else (f"--address={self.gcs}", *arguments)
        own = ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=80000000"]
        own += [f"--dashboard-agent-listen-port={free_ports(1)[0]}", "--include-log-monitor=false"]
        log = self.folder / f"{name}.log"
        environment = {
            "PATH": f"{self._bin}:/usr/bin:/bin",
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": f"{ROOT / 'tests'}:{preloaded.WARM}",
            preloaded.ADDRESS: os.environ[preloaded.ADDRESS],
            preloaded.PARENT_BY_PIPE: "1",
            "HF_HUB_OFFLINE": "1",
            MARK: os.environ[MARK],
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_raylet_start_wait_time_s": "120",
            NODE: self._mark(name),
            "LLDEG_DASHBOARD": "JobHead,NodeHead",
            **self.environment,
        }
        environment |= {key: f"{folder}:{environment[key]}" for key, folder in (before or {}).items()}
        with log.open("w") as stream:
            process = subprocess.Popen(
                [self._bin / "python", "-c", START, "start", "--block", *join, *own],
                env=environment,
                cwd=self.folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes[name] = process
        until = time.monotonic() + SECONDS_TO_WAIT
        while STARTED not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def kill(self, name):
        """End a node and all its processes at once, as a power cut does."""
        process = self.nodes.pop(name)
        self.killed += 1
        end_all(NODE, self._mark(name))
        process.wait()

    def _mark(self, name):
        return f"{name} of {self.folder}"

    def remove(self, *names):
        """End nodes and wait until the cluster has noticed, which takes it many seconds."""
        for name in set(names) & set(self.nodes):
            self.kill(name)
        until = time.monotonic() + SECONDS_TO_WAIT
        while self._dead() < self.killed:
            assert time.monotonic() < until
            time.sleep(0.5)

    def end(self):
        """End everything."""
        for name in reversed(list(self.nodes)):
            self.kill(name)

    def ask(self, path):
        """What the dashboard answers, as JSON values."""
        request = urllib.request.Request(self.jobs + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def named(self, resource):
        """Ray's ID of the node that has a resource of its own, which the dashboard learns after a while."""
        until = time.monotonic() + SECONDS_TO_WAIT
        while not (found := [one for one in self._raylets() if resource in one["resourcesTotal"]]):
            assert time.monotonic() < until
            time.sleep(0.5)
        return found[0]["nodeId"]

    def _dead(self):
        return sum(node["state"] == "DEAD" for node in self._raylets())

    def _raylets(self):
        return [node["raylet"] for node in self.ask("/nodes?view=summary")["data"]["summary"]]
