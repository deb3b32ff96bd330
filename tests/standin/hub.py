"""A hub of models that answers no request as one would like, and what two engines make of it.

Run as a program, with a folder for caches: what vLLM and transformers raise for models named after answers.
The hub's client pauses between its own attempts, for up to a minute in all; here it does not.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "busy": (429, None),
    "down": (503, None),
    "cut-off": (None, None),
    "gated": (403, "GatedRepo"),
    "absent": (404, "RepoNotFound"),
    "private": (401, "RepoNotFound"),
    "no-such-revision": (404, "RevisionNotFound"),
}
"""Status and code of the answer about a model, by its name; no status cuts the connection."""


class Hub(BaseHTTPRequestHandler):
    """Answers by the name of the model."""

    def do_GET(self):
        """Whatever is asked."""
        status, code = next(answer for name, answer in ANSWERS.items() if name in self.path)
        if status is None:
            self.connection.close()
            return
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - a name of the library

    def log_message(self, *_):
        """Be quiet."""


def failures():
    """Per engine and model, the class and the words of the error that ends a load."""
    from orchestrator.engines import vllm_engine
    from orchestrator.engines.base import EngineSpec
    from orchestrator.engines.lm_eval_engine import load_lm

    def with_vllm(spec):
        try:
            vllm_engine.engine_config(vllm_engine.engine_arguments(spec, gpus=0, on_cpu=True))
        except Exception as error:
            raise vllm_engine.why_not_loaded(error, "") from error

    engines = {"vllm": with_vllm, "hf": lambda spec: load_lm(spec, "hf", on_cpu=True)}
    return {
        f"{engine} {name}": failure(load, EngineSpec(f"org/{name}"))
        for engine, load in engines.items()
        for name in ANSWERS
    }


def failure(load, spec):
    """How one load fails."""
    try:
        load(spec)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
        return [type(error).__name__, str(error)]
    return None


def main():
    """Print the failures as JSON."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    del os.environ["HF_HUB_OFFLINE"]
    os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": sys.argv[1]}
    time.sleep = lambda _: None
    print(json.dumps(failures()))


if __name__ == "__main__":
    main()
