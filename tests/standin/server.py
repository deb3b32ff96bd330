"""A stand-in for a provider: an HTTP server that answers at once, and misbehaves where it is told to."""

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from orchestrator.engines import kind_of

RESET = "reset"  # in place of a reply: the connection breaks
PAUSE = 0.2  # seconds between the pieces of a reply, where it is a tuple
HANG = "hang"  # in place of a reply: nothing comes until the server ends


def open_engine(spec, *, gpus):
    """The engine of a spec, as a replica loads it."""
    return kind_of(spec).load(gpus)


def reply(content, status=200, **headers):
    """A reply: status, headers, and content as JSON or as it is."""
    data = content if isinstance(content, bytes | tuple) else json.dumps(content).encode()
    return status, headers, data


def completion(body, text=None):
    """What an OpenAI-like server says: a text that names prompt, temperature and seed, or likelihoods."""
    if body.get("echo"):
        return reply({"choices": [{"index": 0, "text": "", "logprobs": likelihoods(body["prompt"][0])}]})
    if text is None:
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        text = f"{str(prompt).split()[-1]} at {body['temperature']} with {body['seed']}"
    said = {"message": {"content": text}} if "messages" in body else {"text": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return reply({"choices": [{"index": 0, "finish_reason": "stop", **said}], "usage": usage})


def likelihoods(tokens):
    """A likelihood of each token's own, below 1; that of an even one is the largest at its place."""
    values = [-0.5 - 0.03 * (token % 512) for token in tokens[1:]]
    tops = [
        {"it": v, "other": v - 1 if token % 2 == 0 else v / 2}
        for token, v in zip(tokens[1:], values, strict=True)
    ]
    return {"token_logprobs": [None, *values, -9.0], "top_logprobs": [None, *tops, {"it": -9.0}]}


class StandInServer:
    """A server in threads of this process.

    Args:
        behave: called with the number of the request, from 1, and its body; gives the reply.

    Attributes:
        bodies: what was asked, in order.
        headers: of the last request.
        most: requests that were in flight at the same time.
    """

    def __init__(self, behave=lambda number, body: completion(body)):
        self._behave = behave
        self._lock = threading.Lock()
        self._inside = 0
        self._connections = set()
        self._ended = threading.Event()
        self.bodies, self.headers, self.most, self.port = [], {}, 0, 0
        self.come()

    @property
    def url(self):
        """Where it is to be asked."""
        return f"http://127.0.0.1:{self.port}/v1/completions"

    def come(self):
        """Listen, at the port of before."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # a reply in one piece: two would wait for each other's acknowledgement

            def do_POST(self):
                owner._take(self)

            def log_message(self, *_):
                pass

        class Listener(ThreadingHTTPServer):
            allow_reuse_address, daemon_threads, block_on_close = True, True, False
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # connections that break are what it is for

        self._listener = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def go(self):
        """Break all connections and listen no more."""
        self._listener.shutdown()
        self._listener.server_close()
        with self._lock:
            for connection in self._connections:
                break_off(connection)

    def end(self):
        """Go for good."""
        self._ended.set()
        self.go()

    def _take(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self._connections.add(handler.connection)
            self.bodies.append(body)
            self.headers = dict(handler.headers)
            self._inside += 1
            self.most = max(self.most, self._inside)
            number = len(self.bodies)
        try:
            answer = self._behave(number, body)
        finally:
            with self._lock:
                self._inside -= 1
        if answer == HANG:
            self._ended.wait()
        elif answer == RESET:
            break_off(handler.connection)
        else:
            self._send(handler, *answer)

    @staticmethod
    def _send(handler, status, headers, data):
        handler.send_response(status)
        length = len(b"".join(data)) if isinstance(data, tuple) else len(data)
        sent = {"Content_Type": "application/json", "Content_Length": length, **headers}
        for name, value in sent.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        for number, piece in enumerate(data if isinstance(data, tuple) else [data]):
            if number:
                handler.wfile.flush()
                time.sleep(PAUSE)
            handler.wfile.write(piece)
        if sent["Content_Length"] > length:
            handler.wfile.flush()
            break_off(handler.connection)


def break_off(connection):
    """Close a connection without the usual farewell."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
