"""A real vLLM server on this machine's CPU, which can be killed and started again."""

import socket
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from standin.command import Command
from standin.machine import DTYPE

ARGUMENTS = [
    f"--dtype={DTYPE}",
    "--enforce-eager",
    "--max-model-len=512",
    "--max-num-batched-tokens=4096",
    "--no-enable-chunked-prefill",  # with it, a seeded request can end the server
    "--no-enable-prefix-caching",
    *("--enable-auto-tool-choice", "--tool-call-parser=hermes"),
    "--distributed-executor-backend=uni",
    "--max-num-seqs=1",  # so that what else is asked cannot change an answer
]
OWN = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else two processes wait for each other by spinning
}
# not `vllm serve`: that asks for a distribution named vllm, and vllm-cpu is none
SERVER = "import runpy; runpy.run_module('vllm.entrypoints.openai.api_server', run_name='__main__')"
NAME = "small"  # of the model, as clients say it


class RealServer:
    """A server in processes of its own.

    Args:
        model: folder of the model.
        log: file for what it says.
    """

    def __init__(self, model: Path, log: Path) -> None:
        self._model, self._log = model, log
        self._command = Command(log.parent, OWN)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def url(self):
        """The beginning of all addresses."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start it, at the port of before."""
        place = [
            f"--model={self._model}",
            f"--served-model-name={NAME}",
            "--host=127.0.0.1",
            f"--port={self.port}",
        ]
        with self._log.open("ab") as log:
            self._process = self._command.start(
                *place, *ARGUMENTS, cwd=self._log.parent, program=SERVER, stdout=log, stderr=log
            )

    def wait(self, seconds=240):
        """Wait until it answers."""
        until = time.monotonic() + seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the server does not come: {self._log.read_text()[-2000:]}")
            time.sleep(0.2)

    def kill(self):
        """SIGKILL to it and the engine's process."""
        self._command.end_all()
        self._process.wait()

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:
                return response.status == 200
        except (URLError, OSError):
            return False
