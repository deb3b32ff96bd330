"""A process that has imported the libraries of a sweep once, and is forked whenever another one needs them.

`standin/warm/sitecustomize.py` is the other side. What is forked is a process like any other: it has its own
exit status, signals and death, /proc shows its own variables, and it imports lldeg's code itself, from where
its own path leads. It ends with its program, without freeing what was imported, and dies with the process
whose part it has taken. Ray reads its variables when it is imported: commands and replicas import it
themselves, and its own daemons are forked from a process that has imported it with the variables that they
have.
"""

import array
import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from pathlib import Path

WARM = Path(__file__).parent / "warm"
ADDRESS = "LLDEG_PRELOADED"
LENGTH, MOST_FILES = 8, 250  # bytes of a number; files the kernel passes on at once
ROOM = 1 << 15  # bytes more than now that a process's variables may take
LIBRARIES = (
    *("aiohttp.web", "aiohttp_cors", "colorful", "grpc", "jsonschema", "lm_eval.models.api_models"),
    *("lm_eval.tasks", "msgpack", "opentelemetry.exporter.prometheus", "prometheus_client", "psutil"),
    *("pyarrow.csv", "pydantic.dataclasses", "pydantic.v1", "requests", "rich.live", "rich.status"),
    *("rich.table", "scipy.optimize", "scipy.stats", "starlette.datastructures", "tenacity.asyncio", "torch"),
    *("transformers.tokenization_utils_base", "transformers.trainer_utils", "typer", "uvloop"),
)
ENGINE = (
    "vllm.entrypoints.llm",
    "vllm.entrypoints.openai.api_server",
    "vllm.lora.request",
    "vllm.model_executor.models.llama",
    "vllm.renderers.hf",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
)
RAY = (
    "ray._private.log_monitor",
    "ray._private.runtime_env.agent.main",
    "ray.autoscaler._private.monitor",
    "ray.dashboard.agent",
    "ray.dashboard.dashboard",
    "ray.dashboard.modules.aggregator.aggregator_agent",
    "ray.dashboard.modules.event.event_agent",
    "ray.dashboard.modules.job.job_agent",
    "ray.dashboard.modules.log.log_agent",
    "ray.dashboard.modules.reporter.healthz_agent",
    "ray.dashboard.modules.reporter.reporter_agent",
)
WITH_RAY = "with Ray"
PARENT_BY_PIPE = "RAY_enable_pipe_based_agent_to_parent_health_check"
"""Has agents see by the end of a pipe, not by the number of their parent, that their node is gone."""


def start(folder, *, with_engine):
    """Start the process, with vLLM or without, unless another worker has; returns its address."""
    address = folder / ("engine" if with_engine else "libraries")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            own = {"LLDEG_ROOM": "x" * ROOM, "OMP_NUM_THREADS": "1"}
            own["TORCH_COMPILE_DISABLE"] = "1"  # engines set it, but before torch is imported
            with address.with_suffix(".log").open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, __file__, address, *LIBRARIES, *(ENGINE if with_engine else ())],
                    env=os.environ | own,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            while not address.exists():
                assert process.poll() is None, address.with_suffix(".log").read_text()
                time.sleep(0.1)
    return address


def serve(listener):
    """Fork for whoever asks; returns in the forked process, with what it is to be.

    Returns:
        the request, and the files that belong to it.
    """
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not listener:
                end(selector, *key.data)
                continue
            connection, _ = listener.accept()
            try:
                request, files = receive(connection)
            except (OSError, ValueError):  # whoever asked was killed while it did
                connection.close()
                continue
            if not (child := os.fork()):
                return request, files
            for number in files:
                os.close(number)
            handle = os.pidfd_open(child)
            for one in (connection, handle):
                selector.register(one, selectors.EVENT_READ, (connection, child, handle))


def receive(connection):
    """A request, and the files that came with it; a ValueError says that there is no whole one."""
    head, rights, _, _ = connection.recvmsg(LENGTH, socket.CMSG_SPACE(4 * MOST_FILES))
    files = array.array("i")
    for _, _, data in rights:
        files.frombytes(data[: len(data) - len(data) % 4])
    message = b""
    while len(message) < int.from_bytes(head, "big") and (part := connection.recv(1 << 16)):
        message += part
    try:
        return json.loads(message), list(files)
    except ValueError:
        for number in files:
            os.close(number)
        raise


def end(selector, connection, child, handle):
    """Once a forked process has ended, or whoever it stands for, so has the other."""
    if connection.fileno() < 0:
        return  # both ended at once
    selector.unregister(connection)
    selector.unregister(handle)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        connection.send(os.waitstatus_to_exitcode(status).to_bytes(LENGTH, "big", signed=True))
    connection.close()
    os.close(handle)


def become(request, files):
    """Take over what a process has, but its number: files, variables, folder, signals, path."""
    os.setsid()
    above = max((*files, *request["files"])) + 1
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, above) for number in files]
    for number in set(map(int, os.listdir("/proc/self/fd"))) - set(moved):  # noqa: PTH208
        with suppress(OSError):
            os.close(number)
    for number, copy in zip(request["files"], moved, strict=True):
        os.dup2(copy, number)
        os.close(copy)
    os.environ.clear()
    os.environ.update(request["variables"])
    show_variables()
    os.chdir(request["folder"])
    gc.freeze = gc.unfreeze = lambda: None  # vLLM would have all that was imported searched
    os.setpriority(os.PRIO_PROCESS, 0, request["niceness"])
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    sys.executable, sys.path[:] = request["executable"], request["path"]
    sys.prefix = sys.exec_prefix = request["prefix"]
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", 1, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def show_variables():
    """Write the variables to where /proc shows those that a process began with."""
    begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[47:49])
    shown = b"\0".join(f"{name}={value}".encode() for name, value in os.environ.items())[: end - begin]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, shown, len(shown))


def run(words):
    """Run a program as the interpreter would: `-c`, code; `-m`, module; or a script; then arguments."""
    Path("/proc/self/comm").write_text(" ".join(words[:2])[-15:])
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


def end_with(program):
    """End as the interpreter does once a program has ended, but without freeing all that was imported."""
    try:
        program()
        raise SystemExit
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except Exception:  # noqa: BLE001 - as it would end any program
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status & 0xFF)


class Replaced(BaseException):
    """A program that is to be replaced by another one, whose words are the arguments."""


def set_up_worker(words):
    """Run the program that prepares a worker's environment; returns the words of the worker.

    It ends with a shell that starts the worker's interpreter, which is not needed if that is this one.
    """

    def replace(_, args):
        interpreter, *worker = [word for word in shlex.split(args[-1]) if word not in {"exec", "-u"}]
        if interpreter != sys.executable or not worker[0].endswith("/default_worker.py"):
            os.execv("/bin/bash", args)
        raise Replaced(*worker)

    os.execvp, before, own = replace, os.execvp, set(os.environ.get("PYTHONPATH", "").split(os.pathsep))
    try:
        run(words)
    except Replaced as other:
        os.execvp = before
        rest = [entry for entry in sys.path if entry not in own]
        sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *rest]
        show_variables()
        return list(other.args)
    raise AssertionError("no worker was started")


def main(address, *libraries):
    """Import the libraries, then fork for whoever connects to the address."""
    sys.modules["ray"] = None
    for name in libraries:
        importlib.import_module(name)
    del sys.modules["ray"]
    request, files = forked(address)
    words = request["words"]
    if words[0] == WITH_RAY:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ |= {name: text for name, text in request["variables"].items() if name.startswith("RAY_")}
        for name in RAY:
            importlib.import_module(name)
        request, files = forked(words[1], detach=True)
        words = request["words"]
    become(request, files)
    end_with(lambda: run(set_up_worker(words) if words[0].endswith("/setup_worker.py") else words))


def forked(address, *, detach=False):
    """Fork for whoever connects to an address; returns in the forked process, with what `serve` gives.

    Args:
        address: of this process, from now on.
        detach: whether to go on in a process of its own, and to end the one that was asked for it.
    """
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(100)
    Path(f"{address}.new").rename(address)
    if detach and os.fork():
        os._exit(0)
    request, files = serve(listener)
    listener.close()
    gc.collect()  # a selector is a cycle: collected later, it would close files whose numbers were given anew
    return request, files


if __name__ == "__main__":
    main(*sys.argv[1:])
