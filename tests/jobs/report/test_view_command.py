"""`lldeg view` as a command: it says where it listens, and refuses what it cannot do in one sentence."""

import re
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest

from jobs.commands.view import view
from orchestrator.errors import UserError

pytestmark = pytest.mark.ray

RUN = "import typer; from jobs.commands.view import view; typer.run(view)"


def test_it_says_where_it_listens(sampled_run):
    """The address that is printed answers at once, on this machine only."""
    command = [sys.executable, "-c", RUN, str(sampled_run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.match(r"http://127\.0\.0\.1:\d+/", server.stdout.readline()).group()
            with urlopen(address) as answer:
                assert answer.status == 200
        finally:
            server.terminate()


def test_a_taken_port_is_refused(sampled_run):
    """The sentence names the port and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} cannot be used.*--port"):
            view([str(sampled_run)], port=port)


def test_what_is_no_run_is_refused(tmp_path):
    """A folder without runs opens no port."""
    with pytest.raises(UserError, match="is empty"):
        view([str(tmp_path)], port=0)
