"""The fast lane stays without Ray and servers, and no lane leaves a process behind."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
import ray
from standin.command import ROOT


def test_a_test_without_a_mark_cannot_start_ray():
    """Ray finds no folder for its sockets, here or in a process that the test starts."""
    with pytest.raises(NotADirectoryError):
        ray.init("local", include_dashboard=False)


def test_a_test_without_a_mark_cannot_start_a_server():
    """The failure names the mark."""
    with pytest.raises(pytest.fail.Exception, match=r"pytest\.mark\.ray"):
        socket.create_server(("127.0.0.1", 0))


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_tests(way):
    """A process that left its group and session is ended with whoever was watched."""
    code = """import signal, subprocess, sys, time
from standin.watchdog import watch
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have had it ignored
watch()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as tests:
        child = psutil.Process(int(tests.stdout.readline()))
        tests.send_signal(way)
    child.wait(timeout=60)
