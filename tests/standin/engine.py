"""A stand-in for a model: answers at once, always the same way, and fails where it is told to.

Not an lm-eval model by name; a sweep reaches it as `kind: "lm-eval:standin.engine:StandIn"`.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from lm_eval.api.model import LM
from standin.files import write_sweep

import orchestrator
from orchestrator.cluster.code_shipping import shipped_tasks

KIND = "lm-eval:standin.engine:StandIn"
DEADLY = "DEADLY"


class StandIn(LM):
    """A model whose text says what it was asked, at which temperature and with which seed.

    Args:
        model: unused; lm-eval's classes get the model's name.
        pids: folder where each process that loads the engine leaves its number, as a file that says where it
            runs, what it sees of the hardware, and where its code and its tasks come from.
        hold: a file; as long as it is there, no call after the first `free` ones ends.
        free: calls that end at once.
        dies: whether a prompt with the word DEADLY in it kills the process.
        obstruct: a path that is a file until some seconds after the first call, so that nothing can be
            written below it; calls take a second then, so that a block is not tried too often in that time.
        refuse: whether to refuse to load.
        fails: what each load fails of, as an error that may pass; None lets them work.
        sick: folder of files by Ray's IDs of nodes: what loads there fail of; from the file of a node that is
            said to be "busy" only the first one.
        tensor_parallel_size: unused, but for the size of a replica.
    """

    def __init__(
        self,
        model,
        pids=None,
        hold=None,
        free=0,
        dies=False,
        obstruct=None,
        refuse=False,
        fails=None,
        sick=None,
        tensor_parallel_size=1,
    ):
        super().__init__()
        if refuse:
            raise ValueError("this engine cannot run this model")
        if words := fails or (sick and next_failure(Path(sick) / ray.get_runtime_context().get_node_id())):
            raise OSError(words)
        self._seed = 0  # set before every call, as for lm-eval's own classes
        self._hold, self._free, self._dies = hold and Path(hold), free, dies
        self._obstruct, self._seconds = obstruct and Path(obstruct), 1.0 if obstruct else 0.0
        if pids is not None:
            leave_word(Path(pids))
        if self._obstruct and not self._obstruct.parent.exists():  # a later one may end before it clears it
            self._obstruct.parent.mkdir(parents=True)
            self._obstruct.touch()

    def generate_until(self, requests, disable_tqdm=False):
        """Texts that depend on prompt, temperature and seed alone."""
        self._misbehave(requests)
        return [self._text(*request.args) for request in requests]

    def _text(self, context, settings):
        temperature = settings["temperature"]
        draw = hashlib.sha256(f"{context}|{temperature}|{self._seed}".encode()).hexdigest()[:8]
        return f"{context.split()[-1]} at {temperature} with {self._seed}: {draw}"

    def loglikelihood(self, requests, disable_tqdm=False):
        """The shorter the continuation, the likelier."""
        self._misbehave(requests)
        return [(-float(len(request.args[1])), False) for request in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        """One nat a character."""
        return [-float(len(request.args[0])) for request in requests]

    def _misbehave(self, requests):
        if self._obstruct:
            threading.Timer(2.5, self._clear, [self._obstruct]).start()
            self._obstruct = None
        time.sleep(self._seconds)
        self._free -= 1
        while self._hold and self._free < 0 and self._hold.exists():
            time.sleep(0.05)
        if self._dies and any(DEADLY in request.args[0] for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _clear(path):
        if path.is_file():
            path.unlink(missing_ok=True)


def next_failure(file):
    """What a load fails of on the node that a file is named after; "" if it works."""
    if not file.exists():
        return ""
    words = file.read_text()
    if file.parent.name == "busy":
        file.unlink()
    return words


def write_held_sweep(folder, **cluster):
    """A sweep of one variant and the task "asked", whose replicas stop after one call while there is `hold`.

    Each leaves its word in `pids`, and takes one CPU and what else the caller wants of the cluster.
    """
    return write_sweep(
        folder,
        engine={"kind": KIND, "hold": str(folder / "hold"), "free": 1, "pids": str(folder / "pids")},
        variants={"base": {}},
        tasks=["asked"],
        sampling={"temperatures": [0.7], "seeds": 1},
        cluster={"cpus_per_replica": 1, **cluster},
    )


def leave_word(folder):
    """Write what this process sees."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = {
        "node": ray.get_runtime_context().get_node_id() if ray.is_initialized() else None,
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "code": orchestrator.__path__[0],
        "tasks": shipped_tasks(),
        "prefix": sys.prefix,
        "mark": os.environ.get("LLDEG_MARK"),
    }
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.write_text(json.dumps(seen))
    draft.rename(folder / str(os.getpid()))


def read_words(folder):
    """What the processes that loaded the engine wrote, by process."""
    return {int(path.name): json.loads(path.read_text()) for path in folder.glob("*")}
