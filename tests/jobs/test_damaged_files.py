"""Damaged files of a run, logs that are none, options out of range: a sentence each, and no lost counts."""

import json

import pytest
from analyze_runner import run_analyze
from lm_eval_maker import write_samples
from standin.runs import MadeTask, make_run

DEEP = b"[" * 100_000
SURROGATE = b'{"time": 1, "event": "\\ud800", "replica": "\\udfff"}'


@pytest.fixture
def run(tmp_path):
    """A complete run of six samples."""
    task = MadeTask({("base", 0.0): [[1, 0, 1]], ("v", 0.0): [[1, 1, 0]]})
    return make_run(tmp_path / "run", {"t": task})


STATUSES = {
    "deep": DEEP,
    "a list": b"[1]",
    "endless": b'{"seconds_left": 1e300}',
    "no counts": b'{"variants": {"base": 3}}',
    "no numbers": b'{"variants": {"base": {"loads": 1, "samples_per_second": "many"}}}',
    "no replicas": b'{"replicas": [{}]}',
    "no notes": b'{"notes": 1}',
    "less than needed": b'{"variants": {"base": {"not_needed": -5}}}',
    "no looks": b'{"variants": {"base": {"looks": [{"temperature": 0.5}]}}}',
    "no name": b'{"notes": ["\\ud800"]}',
}


@pytest.mark.parametrize("content", STATUSES.values(), ids=STATUSES.keys())
def test_a_damaged_status_changes_no_count(lldeg, run, content):
    """What is done is counted from the samples; the status only informs."""
    (run / "logs").mkdir()
    (run / "logs" / "status.json").write_bytes(content)
    assert lldeg("status", run).status == 0
    assert json.loads(lldeg("status", run, "--format", "json").out)["done"] == 6


EVENTS = {
    "deep": DEEP,
    "a list": b"[1]",
    "no time": b'{"event": "x"}',
    "too late": b'{"time": 1e308, "event": "x"}',
    "much too late": b'{"time": 1e18, "event": {"a": [1]}}',
    "half characters": SURROGATE,
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", EVENTS.values(), ids=EVENTS.keys())
def test_a_damaged_event_is_shown_as_it_is(lldeg, run, content):
    """The events before and after it, too."""
    sound = b'{"time": 1, "event": "sound"}'
    (run / "logs").mkdir()
    (run / "logs" / "events.jsonl").write_bytes(b"\n".join([sound, content, sound, b""]))
    result = lldeg("logs", run)
    assert (result.status, result.out.count("sound"), result.out.count("\n")) == (0, 2, 3)


def test_a_folder_in_place_of_a_log_is_named(lldeg, run):
    """It cannot be read, which is no failure of the program."""
    (run / "logs" / "events.jsonl").mkdir(parents=True)
    result = lldeg("logs", run)
    assert (result.status, "events.jsonl" in result.err, "lldeg failed" in result.err) == (2, True, False)


@pytest.mark.parametrize(
    "sweep", ["analysis: true", "analysis: {margin: much}", "baseline: [base]", "variants: 1"]
)
def test_a_damaged_sweep_of_a_run_is_named(run, tmp_path, sweep):
    """With the part that is wrong."""
    (run / "sweep.yaml").write_text(sweep)
    ran = run_analyze(run, out=tmp_path / "out")
    assert (ran.code, sweep.partition(":")[0] in ran.error) == (2, True)


@pytest.mark.parametrize("doc_id", [None, True, 1.5, [1], {"a": 1}], ids=str)
def test_a_sample_without_an_identifier_is_named(tmp_path, doc_id):
    """The line and what is there instead: a document has a number or a text."""
    for name, changes in (("base", {}), ("v", {"doc_id": doc_id})):
        write_samples(tmp_path / name, [1.0], **changes)
    ran = run_analyze(tmp_path / "base", tmp_path / "v", out=tmp_path / "out")
    assert (ran.code, f"Line 1 of {tmp_path}/v/" in ran.error, "doc_id" in ran.error) == (2, True, True)


@pytest.mark.parametrize("content", [DEEP, b'{"doc_id": 1, "exact_match": ' + DEEP], ids=["all", "a part"])
@pytest.mark.parametrize("name", ["samples", "list", "metrics", "manifest"])
def test_json_that_nests_too_deeply_is_named(tmp_path, run, name, content):
    """Python's parser gives up with an error of its own."""
    sound = write_samples(tmp_path / "base", [1.0])
    (tmp_path / "base.json").write_bytes(content)
    places = {
        "samples": [sound.parent, tmp_path / "v"],
        "list": [tmp_path / "base.json"],
        "metrics": [run, "--metrics", tmp_path / "base.json"],
        "manifest": [run],
    }
    damaged = {"samples": write_samples(tmp_path / "v", [1.0]), "manifest": run / "manifest.json"}
    if name in damaged:
        damaged[name].write_bytes(content)
    assert run_analyze(*places[name], out=tmp_path / "out").code == 2


@pytest.mark.parametrize("path", ["a" * 5000, "\0"], ids=["long", "NUL"])
def test_a_list_may_name_what_no_disk_can_hold(tmp_path, path):
    """Such a file does not exist, and that is said."""
    (tmp_path / "list.json").write_text(json.dumps({"a": path, "b": path}))
    assert run_analyze(tmp_path / "list.json", out=tmp_path / "out").code == 2


OUT_OF_RANGE = [
    *(["analyze", "run", "--margin", margin] for margin in ("50", "1e308", "nan", "0", "-1", "9" * 400)),
    *(["analyze", "run", "--alpha", alpha] for alpha in ("5", "nan", "0", "-1", "inf")),
    *(["analyze", "run", "--temperature", temperature] for temperature in ("nan", "inf", "1e308")),
    ["analyze", "run", "--range", "t=-1e308..1e308"],
    ["analyze", "run", "--min-common", "nan"],
    *(["power", "--items", items, "--flip-rate", "0.1"] for items in ("9" * 400, str(10**12), "0")),
    ["power", "--items", "100", "--flip-rate", "0.1", "--reruns", "9" * 400],
    ["power", "--items", "100", "--flip-rate", "0.1", "--drop", "1e-300"],
    ["power", "--items", "100", "--flip-rate", "0.1", "--throughput", "nan"],
    ["logs", "run", "--replica", "9" * 400],
    ["view", "run", "--port", "9" * 400],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", OUT_OF_RANGE, ids=lambda arguments: " ".join(arguments)[:50])
@pytest.mark.usefixtures("run")
def test_an_option_out_of_range_is_refused(lldeg, tmp_path, arguments):
    """Whatever the number, and nothing is written."""
    result = lldeg(*arguments)
    assert (result.status, "lldeg failed" in result.err) == (2, False)
    assert not (tmp_path / "run" / "analysis").exists()
