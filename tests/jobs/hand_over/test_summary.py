"""`--format markdown` and `--format line`: short, and safe whatever names and warnings hold."""

import re

import pytest
from markdown import markdown as to_html
from standin.runs import MadeTask, make_run

from jobs.text.tables import escaped

SAME, WORSE = [1] * 300 + [0] * 100, [1] * 200 + [0] * 200
HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "a|b|c",
    "`code` *bold* _it_ ~~gone~~",
    "&lt;b&gt;",
    "</details><h1>ok</h1>",
    "@everyone",
    "https://evil.example www.evil.example",
    "$x$ <!-- hidden -->",
    "line\nbreak\x1b[31m",
]


@pytest.fixture
def run(tmp_path):
    """One variant is degraded, one is not."""
    tasks = {
        "a": MadeTask({("base", 0.0): [SAME], ("bad", 0.0): [WORSE], ("good", 0.0): [SAME]}),
        "b": MadeTask({("base", 0.0): [SAME], ("bad", 0.0): [SAME], ("good", 0.0): [SAME]}),
    }
    return make_run(tmp_path / "run", tasks, baseline="base")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_only_text(text):
    """No tag and no link comes out of a Markdown renderer, and a table keeps its cells."""
    safe = escaped(text)
    html = re.sub(r"<!-- -->", "", to_html(f"| x |\n| --- |\n| {safe} |", extensions=["tables"]))
    tags = set(re.findall(r"<(/?\w+)", html))
    assert tags <= {
        f"{end}{tag}" for end in ("", "/") for tag in ("table", "thead", "tbody", "tr", "th", "td")
    }
    assert html.count("<td>") == 1
    assert "\n" not in safe


@pytest.mark.parametrize("text", ["@everyone", "https://x.example", "www.x.example"])
def test_no_mention_and_no_link_of_its_own(text):
    """What GitHub turns into a mention or a link is broken up by a comment that is not shown."""
    safe = escaped(text)
    assert not re.search(r"@\w|https?://|www\.", safe)
    assert re.sub("<!-- -->", "", safe) == text


def test_verdicts_come_first_and_details_are_folded(lldeg, run):
    """The result is in the first line, the table of verdicts is open, and the rest is closed."""
    text = lldeg("analyze", run, "--format", "markdown").out
    assert text.splitlines()[0].startswith("**lldeg degraded: bad at temperature 0 loses 12.50 points")
    opened = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    assert "| bad " in opened
    assert "is worse than" in text
    assert "is worse than" not in opened


def test_the_summary_is_a_file_too(lldeg, run):
    """summary.md holds what the format shows."""
    text = lldeg("analyze", run, "--format", "markdown").out
    assert (run / "analysis" / "summary.md").read_text() == text


@pytest.mark.slow
def test_many_comparisons_stay_short(lldeg, tmp_path):
    """A comment on GitHub has at most 65,536 characters: 80 variants fit."""
    models = {(f"v{number}", 0.0): [WORSE] for number in range(80)}
    many = make_run(tmp_path / "many", {"a": MadeTask({("base", 0.0): [SAME]} | models)}, baseline="base")
    text = lldeg("analyze", many, "--format", "markdown", "--adjust", "holm").out
    assert len(text) < 65_536


def test_one_line(lldeg, run, tmp_path):
    """A line names the verdict, the culprit and the counts; with a policy, the reason code."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("tasks: {'*': not-degraded}\n")
    plain = lldeg("analyze", run, "--format", "line").out
    judged = lldeg("analyze", run, "--policy", policy, "--format", "line").out
    assert plain == "lldeg degraded: bad at temperature 0 loses 12.50 points (1 degraded, 1 certified)\n"
    assert judged.startswith("lldeg policy: blocked: bad at temperature 0 on a degraded")
    assert judged.count("\n") == 1


def test_nothing_worse_is_one_line_too(lldeg, tmp_path):
    """Without damage no culprit is named."""
    tasks = {"a": MadeTask({("base", 0.0): [SAME], ("good", 0.0): [SAME]})}
    run = make_run(tmp_path / "fine", tasks, baseline="base")
    assert lldeg("analyze", run, "--format", "line").out == "lldeg certified (1 certified)\n"
