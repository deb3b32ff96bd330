"""Code that a model wrote: what it tries to reach, and that the next sample is scored as if it had not."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
from standin.files import GENERATE, questions, write_task

from orchestrator.config.schema import PromptConfig, TaskConfig
from orchestrator.sweep.tasks import TaskError, TaskLibrary
from orchestrator.workers.sandbox import environment
from orchestrator.workers.scoring_pool import ScoringPool

pytestmark = pytest.mark.slow  # each process imports lm-eval

RUN = '''
import multiprocessing

def _run(code):
    try:
        exec(code, {})
    except BaseException:
        os._exit(1)
    os._exit(0)

def process_results(doc, results):
    """Scores 1 if the code that the model wrote runs to its end within two seconds, as HumanEval does."""
    process = multiprocessing.Process(target=_run, args=(results[0],))
    process.start()
    process.join(2)
    if process.exitcode is None:
        process.kill()
        process.join()
    return {"exact_match": float(process.exitcode == 0)}
'''
HERE = '''
def process_results(doc, results):
    """Scores 1 if the code that the model wrote raises nothing in this very process."""
    exec(results[0], {})
    return {"exact_match": 1.0}
'''
SETTINGS = {**GENERATE, "unsafe_code": True, "filter_list": GENERATE["filter_list"][1:]}
HARMLESS = "import tempfile\nwith tempfile.TemporaryFile() as file: file.write(b'1')"
"""What must still work after each of the others."""


@pytest.fixture
def tmp_path(request, monkeypatch):
    """A folder for all temporary files, on a disk unless it is to be elsewhere."""
    with tempfile.TemporaryDirectory(dir=getattr(request, "param", "/var/tmp")) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs code as a task with `confirm_run_unsafe_code` does; returns the scores, or the reasons without."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    pools = []

    def start(*codes, how=RUN, seconds=20.0):
        folder = tmp_path / "pack"
        name = write_task(
            folder, "told", questions(len(codes)), {"process_results": "import os\n" + how}, **SETTINGS
        )
        library = TaskLibrary((str(folder),), unsafe_code=True)
        (spec,) = library.leaves(TaskConfig(task=name))
        built = library.open(spec).build(PromptConfig(), None, "plain")
        pools.append(ScoringPool({name: spec}, 1, seconds))
        requests = built.values()
        batch = [(one, [[code]]) for one, code in zip(requests, codes, strict=True)]
        results = pools[-1].score(name, batch)
        return [r.scores["exact_match,whole"] if r.reason is None else r.reason for r in results]

    yield start
    for pool in pools:
        pool.close()


def reaching(tmp_path):
    """Pieces of code that reach out; each must fail."""
    outside = tmp_path / "outside"
    (tmp_path / "secret").write_text("hf_secret")
    listener = socket.socket()  # bound, so that nobody else has the port; it refuses connections
    listener.bind(("127.0.0.1", 0))
    return {
        "read a token": "import os; os.environ['HF_TOKEN']",
        "read any secret": "import os; assert any('secret' in value for value in os.environ.values())",
        "read the environment of the parent": (
            "import os\nfor pid in os.listdir('/proc'):\n"
            "  if pid.isdigit() and pid != str(os.getpid()):\n"
            "    try: data = open(f'/proc/{pid}/environ', 'rb').read()\n"
            "    except OSError: continue\n"
            "    if b'hf_secret' in data: os._exit(0)\nraise SystemExit(1)"
        ),
        "read a file": f"open({str(tmp_path / 'secret')!r}).read()",
        "write outside": f"open({str(outside)!r}, 'w').write('1')",
        "write at home": "import os; open(os.path.expanduser('~/lldeg-was-here'), 'w')",
        "write a large file": "open('large', 'wb').write(bytes(1 << 30))",
        "fork without end": "import os\nwhile True: os.fork()",
        "fork and leave": "import os\nfor _ in range(99): os.fork() or os.execlp('sleep', 'sleep', '99')",
        "take memory": "bytes(10 << 30)",
        "sleep": "import time; time.sleep(999)",
        "connect": f"import socket; socket.create_connection({listener.getsockname()!r}, timeout=1)",
        "look up a name": "import socket; socket.getaddrinfo('example.org', 80)",
        "kill the replica": "import os; os.kill(" + str(os.getpid()) + ", 0)",
    }


def test_nothing_outside_is_reached_and_the_next_sample_is_scored(run, tmp_path):
    """Environment, files, processes, memory, time and network; after each a harmless piece of code runs."""
    attempts = reaching(tmp_path)
    codes = [code for attempt in attempts.values() for code in (attempt, HARMLESS)]
    scores = run(*codes)
    reached = dict(zip(attempts, scores[::2], strict=True))
    assert reached == dict.fromkeys(reached, 0.0)
    assert scores[1::2] == [1.0] * len(attempts)
    assert not (tmp_path / "outside").exists()


def test_code_in_the_scoring_process_itself_costs_its_own_sample(run, tmp_path):
    """What takes too long, or ends the process, is an error, and what was left behind is gone."""
    codes = ["import time; time.sleep(999)", HARMLESS, "import os; os._exit(0)", "x = 1"]
    codes += [
        "import os; os.environ['HF_TOKEN']",
        f"open({str(tmp_path / 'outside')!r}, 'w')",
        "bytes(10 << 30)",
    ]
    results = run(*codes, how=HERE, seconds=3.0)
    kinds = [result if isinstance(result, float) else result.split(":")[0] for result in results]
    assert kinds == [
        "ScoringStopped",
        1.0,
        "ScoringStopped",
        1.0,
        "KeyError",
        "PermissionError",
        "MemoryError",
    ]


@pytest.mark.parametrize("tmp_path", ["/dev/shm"], indirect=True)
def test_everything_may_lie_in_shared_memory(run, tmp_path):
    """Of which the sandbox has another one, with nothing in it but what may be read, and not be changed."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack").chmod(0o777)
    seen = "import os; assert {name[:3] for name in os.listdir('/dev/shm')} == {'tmp'}"
    changed = f"open({str(tmp_path / 'pack' / 'new')!r}, 'w')"
    *scores, refused = run(seen, HARMLESS, changed, how=HERE)
    assert scores == [1.0, 1.0]
    assert "Read-only file system" in refused


@pytest.mark.parametrize("sent", ["Connection(os.dup(fd)).send(Bomb())", "os.pwrite(fd, b'\\xff' * 8, 0)"])
def test_what_is_forged_can_at_most_spoil_its_own_batch(run, tmp_path, sent):
    """Whatever code writes to all that is shared with the replica: an object to unpickle, a wrong number."""
    forged = (
        "import os, pickle\nfrom multiprocessing.connection import Connection\n"
        "class Bomb:\n  def __reduce__(self): return (os.mkdir, (" + repr(str(tmp_path / "outside")) + ",))\n"
        "for fd in range(3, 30):\n"
        f"  try: {sent}\n"
        "  except OSError: pass\n"
        "os._exit(0)\n"
    )
    assert run(forged, how=HERE) == ["ScoringStopped: scoring ended its process"]
    assert not (tmp_path / "outside").exists()


def test_a_fork_that_returns_changes_no_other_score(run):
    """Copies of the process that scores would otherwise go on as that one, and send results of their own."""
    forks = "import os\nfor _ in range(1000): os.fork()"
    codes = ["raise KeyError", forks, "import time; time.sleep(0.21)", "raise ValueError", "pass"]
    results = run(*codes, how=HERE)
    kinds = [result if isinstance(result, float) else result.split(":")[0] for result in results]
    assert kinds[:1] + kinds[2:] == ["KeyError", 1.0, "ValueError", 1.0]


def test_no_variable_is_passed_on_that_may_be_a_secret(monkeypatch):
    """Names are allowed, not forbidden."""
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_OWN", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:80")
    passed = environment("/folder")
    assert "secret" not in "".join(passed.values())
    assert {"PATH", "TMPDIR"} <= set(passed)


def test_such_a_task_needs_permission(tmp_path):
    """Without `confirm_run_unsafe_code` it is refused."""
    name = write_task(tmp_path, "told", questions(1), **SETTINGS)
    library = TaskLibrary((str(tmp_path),))
    (spec,) = library.leaves(TaskConfig(task=name))
    with pytest.raises(TaskError, match="confirm_run_unsafe_code: true"):
        library.open(spec)
