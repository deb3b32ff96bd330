"""The `lldeg` command in processes of its own, and whether any of them is left."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from standin.watchdog import is_marked

ROOT = Path(__file__).resolve().parents[2]
RUN = "from jobs.__main__ import main; main()"
HEARING = f"""import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have had it ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # likewise, by nohup
{RUN}"""


@dataclass
class Command:
    """Starts lldeg with an environment that marks every process it starts.

    Args:
        ray_folder: where Ray keeps its sockets; short, for the length of a socket's name is limited.
        environment: variables beside the test's own.
    """

    ray_folder: Path
    environment: dict = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, *arguments, cwd, program=RUN, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        """Start lldeg in a process group of its own, as a terminal does; its signals reach a HEARING one."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        ray_folder = os.environ.get("RAY_TMPDIR", str(self.ray_folder))  # set where no Ray may be started
        own = {"PYTHONPATH": path, "RAY_TMPDIR": ray_folder, "LLDEG_TEST": self.mark}
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | own | self.environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments, cwd, timeout=600):
        """Run lldeg to its end; returns (exit status, standard output, standard error)."""
        process = self.start(*arguments, cwd=cwd)
        try:
            return finish(process, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def alive(self):
        """Processes that carry the mark."""
        return [process for process in psutil.process_iter() if is_marked(process, "LLDEG_TEST", self.mark)]

    def left_after(self, seconds):
        """Processes that still live after a grace period."""
        until = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < until:
            time.sleep(0.2)
        return left

    def end_all(self):
        """End whatever carries the mark."""
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def finish(process, timeout=600):
    """Wait for a process; returns (exit status, standard output, standard error)."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for(condition, process, seconds=300, pause=0.05):
    """Wait until a condition holds while a process runs; returns what the condition gave."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if process.poll() is not None:
            raise AssertionError(f"lldeg ended too early: {process.communicate()}")
        if time.monotonic() > until:
            process.send_signal(signal.SIGKILL)
            raise AssertionError(f"lldeg did not get there within {seconds} s")
        time.sleep(pause)
    return found
