"""`--format junit` and junit.xml: accepted by the schema of Ant's JUnit task, and as the exit status says.

JUnit.xsd is the schema of github.com/windyroad/JUnit-Schema (Apache License 2.0).
"""

from pathlib import Path

import pytest
from lxml import etree
from standin.runs import OWED, MadeTask, make_run

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parent / "JUnit.xsd"))
SAME, WORSE = [1] * 300 + [0] * 100, [1] * 200 + [0] * 200
HOSTILE = 'v<b>&"]]>\x0b\x1b[31m\ufffe'
"""A name with markup, control characters and a code point that XML 1.0 cannot hold."""


def tree_of(text):
    """The parsed document, checked against the schema."""
    tree = etree.fromstring(text.encode())
    SCHEMA.assertValid(tree)
    return tree


def run_of(folder, **variants):
    """A run of two tasks; the first is answered as by the baseline, the second as given."""
    tasks = {
        "a": MadeTask({("base", 0.0): [SAME]} | {(name, 0.0): [SAME] for name in variants}),
        "b": MadeTask({("base", 0.0): [SAME]} | {(name, 0.0): [found] for name, found in variants.items()}),
    }
    return make_run(folder / "run", tasks, baseline="base")


def counts(tree):
    """Tests, failures, errors and skipped, over all suites."""
    names = ("tests", "failures", "errors", "skipped")
    return tuple(sum(int(suite.get(name)) for suite in tree) for name in names)


@pytest.fixture
def policy(tmp_path):
    """A policy that judges one task and watches another."""
    path = tmp_path / "policy.yaml"
    path.write_text("margin: 0.02\ntasks: {a: certified, b: watched}\n")
    return path


def test_a_case_per_comparison(lldeg, tmp_path):
    """Without a policy: a degraded variant is a failure, any other a test that passed."""
    ended = lldeg("analyze", run_of(tmp_path, bad=WORSE, good=SAME), "--format", "junit")
    tree = tree_of(ended.out)
    assert (ended.status, counts(tree)) == (1, (2, 1, 0, 0))
    assert tree.find(".//failure").get("type") == "degraded"
    assert tree.find(".//failure").getparent().getparent().get("name") == "bad at temperature 0"


def test_what_a_gate_does_not_let_pass_is_an_error(lldeg, tmp_path):
    """Too little to certify: exit status 3 under --gate certified, and an error in the file."""
    run = run_of(tmp_path, v=[0] * 20 + [1] * 300 + [0] * 80)
    passed = lldeg("analyze", run, "--format", "junit")
    gated = lldeg("analyze", run, "--format", "junit", "--gate", "certified")
    assert (passed.status, counts(tree_of(passed.out))) == (0, (1, 0, 0, 0))
    assert (gated.status, counts(tree_of(gated.out))) == (3, (1, 0, 1, 0))


def test_an_incomplete_run_is_an_error(lldeg, tmp_path):
    """A case of its own, since no comparison is wrong."""
    ended = lldeg("analyze", run_of(tmp_path, v=[OWED, *SAME[1:]]), "--format", "junit")
    assert (ended.status, counts(tree_of(ended.out))) == (3, (2, 0, 1, 0))


def test_a_case_per_task_that_the_policy_names(lldeg, tmp_path, policy):
    """Variant × temperature × task; a watched task is skipped."""
    ended = lldeg("analyze", run_of(tmp_path, v=WORSE), "--policy", policy, "--format", "junit")
    tree = tree_of(ended.out)
    assert (ended.status, counts(tree)) == (0, (2, 0, 0, 1))
    assert {case.get("name") for case in tree.iter("testcase")} == {"a", "b"}
    assert tree.find(".//skipped").getparent().get("name") == "b"


def test_reasons_of_a_policy_are_types(lldeg, tmp_path):
    """Damage is a failure with its reason code, what was not measured an error."""
    strict = tmp_path / "strict.yaml"
    strict.write_text("tasks: {a: {require: not-degraded, min_items: 500}, b: not-degraded}\n")
    ended = lldeg("analyze", run_of(tmp_path, v=WORSE), "--policy", strict, "--format", "junit")
    tree = tree_of(ended.out)
    assert (ended.status, counts(tree)) == (1, (3, 2, 1, 0))
    assert {element.get("type") for element in tree.iter("failure")} == {"degraded"}
    assert [element.get("type") for element in tree.iter("error")] == ["too-few-items"]


def test_names_of_others_cannot_break_the_document(lldeg, tmp_path):
    """Markup is escaped, and what XML 1.0 cannot hold is replaced."""
    rows = [f"{m!r},{i},{int(i < n)}" for m, n in (("base", 90), ("v", 30)) for i in range(100)]
    table = tmp_path / "scores.csv"
    named = HOSTILE.replace('"', '""')
    text = "\n".join(rows).replace("'base'", "base").replace("'v'", f'"{named}"')
    table.write_text(f"model,prompt_id,score\n{text}\n", encoding="utf-8")
    ended = lldeg("analyze", table, "--format", "junit")
    tree = tree_of(ended.out)
    assert ended.status == 1
    assert tree[0].get("name") == 'v<b>&"]]>\ufffd\ufffd[31m\ufffd'


def test_the_file_says_what_the_format_says(lldeg, tmp_path, policy):
    """junit.xml is in the folder of every analysis; only the time stamp may differ."""
    run = run_of(tmp_path, v=WORSE)
    shown = tree_of(lldeg("analyze", run, "--policy", policy, "--format", "junit").out)
    written = tree_of((run / "analysis" / "junit.xml").read_text())
    for suite in (*shown, *written):
        suite.attrib.pop("timestamp")
    assert etree.tostring(shown) == etree.tostring(written).rstrip()
