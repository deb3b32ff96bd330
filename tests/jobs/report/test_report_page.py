"""report.html: its numbers are those of verdicts.json, and nothing in it is more than text."""

import base64
import hashlib
import json
import re

import pytest
from hostile import HOSTILE
from standin.runs import MadeTask, make_run, tell

import lldeg
from jobs.report import flips
from jobs.report.page import script_json
from jobs.report.texts import visible

pytestmark = pytest.mark.slow  # a page each

NUMBERS = (
    "items", "missing", "clusters", "baseline_score", "variant_score", "drop", "worse", "better", "flip_rate",
    "p_pooled", "p_max_drop", "p_fisher", "p_joint", "p_adjusted", "p_noninferior", "mde", "items_needed",
)  # fmt: skip
TASK_NUMBERS = (
    "items",
    "baseline_score",
    "variant_score",
    "drop",
    "worse",
    "better",
    "p_pooled",
    "p_adjusted",
)


def expected(entry, task, names):
    """What the page has to say of an entry of verdicts.json."""
    key = (entry["variant"], json.dumps(entry["temperature"]), task and task["task"])
    found = task or entry
    numbers = {(*key, name): found[name] for name in names}
    interval = f"drop_interval_{'simultaneous' if task else 'decision'}"
    return numbers | {(*key, f"{interval}.{i}"): end for i, end in enumerate(found[interval])}


def test_every_number_equals_verdicts_json(report, sampled_run):
    """Read back out of the page, every number is that of verdicts.json to the last digit."""
    made = report(sampled_run)
    wanted = {}
    for entry in made.verdicts["comparisons"]:
        wanted |= expected(entry, None, NUMBERS)
        for task in entry["tasks"]:
            wanted |= expected(entry, task, TASK_NUMBERS)
    read = {key: [json.loads(value) for value in values] for key, values in made.page.numbers.items()}
    assert {key: read[key] for key in wanted} == {key: [value] for key, value in wanted.items()}


def test_level_and_margin_stand_in_the_page(report, sampled_run):
    """The level and the margin that were used are those shown."""
    page = report(sampled_run, alpha=0.01, margin=0.03).page
    shown = {key[3]: values for key, values in page.numbers.items() if key[0] is None}
    assert shown == {"alpha": {"0.01"}, "margin": {"0.03"}}


def test_the_decision_of_a_policy_is_in_the_page(tmp_path):
    """Decision, reasons and a row for every case, names as text; without a policy, no such section."""
    worse = MadeTask({("base", 0.0): [[1] * 200], ("<i>v", 0.0): [[1] * 100 + [0] * 100]})
    run = make_run(tmp_path / "run", {"t": worse}, baseline="base")
    pages = {}
    for name, policy in (("with", {"tasks": {"t": "not-degraded"}}), ("without", None)):
        lldeg.analyze(run, policy=policy, out=str(tmp_path / name))
        pages[name] = (tmp_path / name / "report.html").read_text("utf-8")
    section = pages["with"].partition('id="policy"')[2].partition("</section>")[0]
    assert re.search(r'data-field="decision">.*</span> blocked</span>', section)
    assert "&lt;i&gt;v" in section
    assert "<i>" not in section
    assert "adjusted over everything that can block" in section
    assert 'id="policy"' not in pages["without"]


def test_hostile_text_makes_no_element(report, hostile_run):
    """Scripts, images, links and handlers in texts and names become no element and no attribute."""
    made = report(hostile_run)
    tags = [tag for tag, _ in made.page.elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    attributes = {name for _, attrs in made.page.elements for name in attrs}
    assert not {name for name in attributes if name.startswith("on")}
    assert all(not a.get("href", "#").lower().startswith("javascript") for _, a in made.page.elements)


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in {"megabyte", "surrogate"}])
def test_hostile_answers_are_kept_as_text(report, hostile_run, kind):
    """Each hostile answer is in the page in full, as the visible text it is."""
    assert visible(HOSTILE[kind]) in report(hostile_run).page.payload["strings"]


def test_a_megabyte_line_is_cut(report, hostile_run):
    """An answer of a megabyte does not make a report of a megabyte."""
    made = report(hostile_run)
    assert made.path.stat().st_size < 300_000
    assert any("characters omitted" in text for text in made.page.payload["strings"])


def test_json_cannot_end_its_script():
    """No sequence that a browser could take for markup survives in embedded JSON, and the value does."""
    value = ["</script>", "<!--", "]]>", "\u2028", "&lt;"]
    text = script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_the_policy_allows_only_the_pages_own_script_and_style(report, sampled_run):
    """The content security policy names digests that match, and allows nothing else to run or load."""
    page = report(sampled_run).page
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    style = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    for text in (*script, *style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert len(script) == len(style) == 1
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_loaded(report, sampled_run):
    """No element names another resource: the file is all there is."""
    elements = report(sampled_run).page.elements
    assert not [attrs for _, attrs in elements if "src" in attrs]
    assert {attrs["href"] for tag, attrs in elements if tag == "link"} == {"data:,"}


def test_warnings_come_before_verdicts(report, sampled_run):
    """What makes a verdict doubtful stands above it."""
    made = report(sampled_run)
    assert made.verdicts["warnings"]
    assert made.page.html.index(made.verdicts["warnings"][0]) < made.page.html.index('class="card')


@pytest.mark.parametrize("limit", ["MOST_FLIPS", "MOST_ANSWERS"])
def test_a_cut_report_says_so_and_takes_from_every_task(report, sampled_run, monkeypatch, limit):
    """With more flips than fit, the page says how many there are, and no task is left out."""
    answers = max(sum(entry["reruns"]) for entry in report(sampled_run).verdicts["comparisons"])
    monkeypatch.setattr(flips, limit, 4 if limit == "MOST_FLIPS" else 4 * answers)
    page = report(sampled_run).page
    assert "4 of 15 flips" in page.html
    assert {flip["task"] for flip in page.payload["flips"]} == {"greedy", "sampled"}


def test_a_whole_report_does_not_speak_of_cutting(report, sampled_run):
    """All flips that were counted are there, and nothing is said to be missing."""
    made = report(sampled_run)
    counted = sum(entry["worse"] + entry["better"] for entry in made.verdicts["comparisons"])
    assert len(made.page.payload["flips"]) == counted == 15
    assert "This file contains" not in made.page.html


def test_a_flip_shows_both_answers_of_every_rerun(report, sampled_run):
    """Seeds stand side by side, with the score of each."""
    data = report(sampled_run).page.payload
    flip = next(f for f in data["flips"] if f["task"] == "sampled" and f["item"] == "7")
    said = [
        [(seed, score, data["strings"][text]) for seed, score, text, _ in pair] for pair in flip["answers"]
    ]
    assert said == [
        [(0, 1.0, "It is 14."), (0, 1.0, "It is 14.")],
        [(1, 1.0, "It is 14."), (1, 0.0, "It is 15, dear Vera.")],
    ]
    assert (flip["scores"], flip["drop"]) == ([1.0, 0.5], 0.5)


def test_log_likelihoods_are_readable(report, tmp_path):
    """Of a choice between answers, the page shows the log-likelihood of each and which was greatest."""
    task = tell(
        base=[[("[[-2.5, false], [-1.0, true]]", 1)]], variant=[[("[[-1.0, true], [-2.5, false]]", 0)]]
    )
    task.sampled = False
    strings = report(make_run(tmp_path / "choices", {"choose": task})).page.payload["strings"]
    assert "choice 0: -2.5000\nchoice 1: -1.0000  ◀ most likely" in strings


def test_scores_without_answers_make_a_report(report, tmp_path):
    """From score tables there is a report, too: its flips have scores and no texts."""
    lines = ["model,task,prompt_id,score", *(f"{m},t,q{i},{int(m == 'a')}" for m in "ab" for i in range(9))]
    (tmp_path / "scores.csv").write_text("\n".join(lines))
    flips = report(tmp_path / "scores.csv").page.payload["flips"]
    assert [(flip["item"], flip["prompt"], flip["answers"]) for flip in flips[:1]] == [("q0", None, [])]
