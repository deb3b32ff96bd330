"""`lldeg` on results of the vendors' verifiers of tool calls, with numbers counted from the rows.

Rows have the fields that K2-Vendor-Verifier's `tool_calls_eval.py` (2025-11) and MiniMax-Provider-Verifier's
`verify.py` (2026-09) write.
"""

import json
from dataclasses import replace

import pytest
from analyze_runner import run_analyze
from standin.tool_replies import CASES, COUNTED, GOOD, X, call, calling

import lldeg
from jobs.analysis.changes import compare_calls
from jobs.formats.samples import PLAIN, InputQuery
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_scores
from orchestrator.errors import UserError
from orchestrator.tool_calls import calls_of
from stats.verdict import Code

TEXT = {"role": "assistant", "content": "No."}
BAD = calling(call({"x": "1"}))


def row(index, message, *, schema=X, model="k2", **more):
    """A row of K2-Vendor-Verifier; its own opinion of the call is left out."""
    function = {"name": "act", **({} if schema is None else {"parameters": schema})}
    request = {
        "messages": [{"role": "user", "content": f"ask {index}"}],
        "tools": [{"type": "function", "function": function}],
        "model": model,
        "temperature": 0.6,
    }
    reason = "tool_calls" if message and calls_of(message) else "stop"
    choices = [{"index": 0, "finish_reason": reason, "message": message}]
    response = {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
    return {
        "data_index": index,
        "request": request,
        "response": response if message else {"error": "Error code: 503"},
        "status": "success" if message else "failed",
        "finish_reason": reason if message else None,
        "tool_calls_valid": None,
        "last_run_at": "2025-11-15T10:00:00",
        "duration_ms": 812,
        "hash": f"{index:032x}",
        **more,
    }


def results(folder, rows, name="results.jsonl"):
    """A file of results."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    return folder / name


def test_schema_accuracy_is_that_of_the_hand_count(tmp_path):
    """The replies whose calls were counted by hand: made, read, and valid."""
    rows = [row(n, message, schema=schema) for n, (schema, message, _) in enumerate(CASES.values())]
    path = str(results(tmp_path, rows))
    for metric, counted in COUNTED.items():
        (table,) = read_scores([path], InputQuery(metrics={"*": metric})).tasks
        (column,) = table.columns.values()
        assert (column.scores.size, column.scores.sum()) == (len(CASES), counted), metric


def test_a_vendor_is_compared_with_the_official_endpoint(tmp_path):
    """By hand: one calls in 60 of 100, the other in 50 of these (20 invalid), and in 10 others."""
    official = [calling(GOOD)] * 60 + [TEXT] * 40
    vendor = [calling(GOOD)] * 30 + [BAD] * 20 + [TEXT] * 10 + [calling(GOOD)] * 10 + [TEXT] * 30
    paths = [
        results(tmp_path / name, [row(n + 1, message) for n, message in enumerate(messages)])
        for name, messages in (("official", official), ("vendor", vendor))
    ]
    done = run_analyze(*paths, "--metric", "tool_calls=call_valid", out=tmp_path / "out")
    (found,) = done.verdicts["comparisons"]
    kept = [found[name] for name in ("variant", "items", "drop", "worse")]
    assert kept == ["vendor/results.jsonl", 100, pytest.approx(0.2), 20]
    assert found["temperature"] == pytest.approx(0.6)
    (said,) = [text for text in done.verdicts["warnings"] if "F1" in text]
    assert (
        "both models call a tool in 50 conversations, only the baseline in 10, only the variant in 10:"
        in said
    )
    assert f"F1 {2 * 50 / (2 * 50 + 10 + 10):.3f} [" in said
    assert (found["calls"]["both"], found["calls"]["f1"]) == (50.0, pytest.approx(100 / 120))
    (called,) = [one for one in found["changes"] if one["measurement"] == "called"]
    assert (called["baseline_mean"], called["variant_mean"], called["p"]) == (0.6, 0.6, 1.0)
    assert "60.0 % → 60.0 %" in done.text  # as many in both directions are not the same
    (result,) = lldeg.analyze([*map(str, paths)]).analysis.results
    assert compare_calls(result, 0.05)["f1_interval"] == found["calls"]["f1_interval"]
    stopped = replace(result.comparison, reason_codes=(Code.ESTIMATE_AFTER_STOP,))
    assert compare_calls(replace(result, comparison=stopped), 0.05)["f1_interval"] is None


def test_results_of_minimax_say_what_was_to_be_called(tmp_path):
    """`expected_tool_call` is a reference of the trigger alone; requests without tools are passed over."""
    rows = [
        row(1, calling(GOOD), expected_tool_call=True),
        row(2, TEXT, expected_tool_call=True),
        row(3, calling(GOOD), expected_tool_call=False),
        row(4, TEXT, expected_tool_call=False),
        row(5, BAD, expected_tool_call=True),
        row(6, None, expected_tool_call=True),
        row(7, TEXT, expected_tool_call=None),
    ]
    rows[-1]["request"].pop("tools")
    path = str(results(tmp_path, rows, "m2_results.jsonl"))
    found = {}
    for metric in ("call_correct", "call_trigger"):
        (table,) = read_scores([path], InputQuery(metrics={"*": metric})).tasks
        (column,) = table.columns.values()
        found[metric] = (column.scores[column.answered].tolist(), column.errors)
    assert found == {"call_correct": ([1, 0, 0, 1, 0], 1), "call_trigger": ([1, 0, 0, 1, 1], 1)}


def test_of_a_request_that_was_sent_again_the_last_row_counts(tmp_path):
    """As the verifiers' incremental mode appends them."""
    rows = [row(1, None), row(2, TEXT), row(1, calling(GOOD))]
    (table,) = read_scores([str(results(tmp_path, rows))]).tasks
    (column,) = table.columns.values()
    assert (column.scores.tolist(), column.errors) == ([1.0, 0.0], 0)


def test_an_endpoint_that_answers_nothing_is_no_other_metric(tmp_path):
    """Nothing pairs; a name of a model that is a number is a name."""
    good = results(tmp_path / "a", [row(n, calling(GOOD)) for n in range(9)])
    failed = results(tmp_path / "b", [row(n, None, model=5) for n in range(9)])
    with pytest.raises(UserError, match=r"5 at temperature 0\.6: not compared, because no item was answered"):
        lldeg.analyze([good, failed])


def test_replies_are_imported(tmp_path):
    """Calls and text as in a run of lldeg, with the counts of tokens."""
    _, (task,) = read_logs([str(results(tmp_path, [row(1, calling(GOOD, content="Hm."))]))], PLAIN)
    _, items, samples = imported(task)
    (item,), (sample,) = items.to_pylist(), samples["k2"].to_pylist()
    assert json.loads(item["prompt"]) == [["user", "ask 1"]]
    assert json.loads(sample["response"]) == {"tool_calls": [GOOD], "content": "Hm."}
    assert (sample["prompt_tokens"], sample["output_tokens"], sample["called"]) == (9, 4, 1.0)
    assert sample["valid_calls"] == 1.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"data_index": 1}', "it lacks data_index or request"),
        ('{"data_index": 1, "request": []}', "it lacks data_index or request"),
        ('{"data_index": 1, "request": {"tools": 3, "messages": 1}}', "does not conform"),
        ('{"data_index": 1, "request": ', "not valid JSON"),
        ("", "is empty"),
    ],
)
def test_a_broken_file_is_named(tmp_path, line, said):
    """In one sentence, with the line or what is wrong."""
    path = tmp_path / "results.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=r"results\.jsonl") as error:
        read_scores([str(path)])
    assert said in str(error.value)
