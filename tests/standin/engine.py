"""A stand-in for a model: answers at once, always the same way, and fails where it is told to.

Not an lm-eval model by name; a sweep reaches it as `kind: "lm-eval:standin.engine:StandIn"`.
"""

import hashlib
import os
import signal
import time
from pathlib import Path

from lm_eval.api.model import LM

KIND = "lm-eval:standin.engine:StandIn"
DEADLY = "DEADLY"


class StandIn(LM):
    """A model whose text says what it was asked, at which temperature and with which seed.

    Args:
        model: unused; lm-eval's classes get the model's name.
        pids: folder where each process that loads the engine leaves its number.
        delay: seconds every call takes.
        dies: whether a prompt with the word DEADLY in it kills the process.
        obstruct: a path that is made a file at the first call and removed at the second.
        refuse: whether to refuse to load.
    """

    def __init__(self, model, pids=None, delay=0.0, dies=False, obstruct=None, refuse=False):
        super().__init__()
        if refuse:
            raise ValueError("this engine cannot run this model")
        self._seed = 0  # set before every call, as for lm-eval's own classes
        self._delay, self._dies, self._obstruct = delay, dies, obstruct
        if pids is not None:
            Path(pids).mkdir(parents=True, exist_ok=True)
            (Path(pids) / str(os.getpid())).touch()

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
        time.sleep(self._delay)
        if self._dies and any(DEADLY in request.args[0] for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._obstruct:
            self._toggle(Path(self._obstruct))

    def _toggle(self, path):
        if path.is_file():
            path.unlink()
            self._obstruct = None
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
