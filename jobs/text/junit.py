"""The verdicts as JUnit XML, which CI systems show as tests.

Damage is a failure, and what could not be shown an error, so that a pipeline that goes by the file agrees
with one that goes by the exit status. The elements are those of the schema of Apache Ant's JUnit task.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal
from xml.etree import ElementTree as ET

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.gate import GateName, has_gaps, unsound
from jobs.analysis.policy.decision import Case, Decision, Status
from jobs.analysis.policy.reasons import Code
from jobs.text.decision import judged_first, task_name
from jobs.text.format import clean
from jobs.text.headline import headline, place
from stats.verdict import Verdict

Kind = Literal["failure", "error", "skipped"]
INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""

KINDS: dict[Status, Kind] = {
    Status.BLOCKED: "failure",
    Status.INSUFFICIENT: "error",
    Status.WATCHED: "skipped",
}
RELEASE = "release"


@dataclass(frozen=True)
class TestCase:
    """One test: its suite and name, and what is wrong, if anything is."""

    suite: str
    name: str
    kind: Kind | None = None
    code: str = ""
    message: str = ""
    details: str = ""


def junit(analysis: Analysis, gate: GateName, decision: Decision | None = None) -> str:
    """The cases of a policy, or without one the comparisons, as a JUnit document."""
    cases = [*_of_analysis(analysis, gate)] if decision is None else [*_of_decision(decision)]
    root = ET.Element("testsuites")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for number, (suite, tests) in enumerate(groupby(cases, key=lambda case: case.suite)):
        root.append(_suite(number, suite, list(tests), now, headline(analysis, decision)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def valid(text: str) -> str:
    """Text that XML 1.0 can hold, on one line."""
    return INVALID.sub("\ufffd", clean(text))


def _of_decision(decision: Decision) -> Iterator[TestCase]:
    for reason in decision.reasons:
        yield TestCase(RELEASE, reason.code, "error", reason.code, reason.text)
    cases = judged_first(decision)
    for suite in dict.fromkeys(place(case.variant, case.temperature) for case in cases):
        own = [case for case in cases if place(case.variant, case.temperature) == suite]
        yield from (_judged(suite, case) for case in own)


def _judged(suite: str, case: Case) -> TestCase:
    kind = KINDS.get(case.status)
    message = " ".join(reason.text for reason in case.reasons)
    codes = " ".join(reason.code for reason in case.reasons)
    details = f"required: {case.demand.require}; reasons: {codes}"
    return TestCase(suite, task_name(case), kind, case.reasons[0].code, message, details)


def _of_analysis(analysis: Analysis, gate: GateName) -> Iterator[TestCase]:
    if analysis.incomplete or (gate == "certified" and has_gaps(analysis)):
        said = "Samples that were asked for are missing or failed."
        yield TestCase(RELEASE, "complete", "error", Code.INCOMPLETE_RUN, said)
    if notice := unsound(analysis):
        yield TestCase(RELEASE, "looks", "error", notice.code, notice.text)
    for result in analysis.results:
        yield _compared(result, gate)


def _compared(result: VariantResult, gate: GateName) -> TestCase:
    found = result.comparison
    kind: Kind | None = None
    if found.verdict is Verdict.DEGRADED:
        kind = "failure"
    elif gate == "certified" and found.verdict is not Verdict.CERTIFIED:
        kind = "error"
    suite = place(result.variant, result.temperature)
    return TestCase(suite, "all tasks", kind, found.verdict.value, found.reasons[0], " ".join(found.reasons))


def _suite(number: int, name: str, cases: Sequence[TestCase], now: str, output: str) -> ET.Element:
    counts = {kind: str(sum(case.kind == kind for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = ET.Element("testsuite", {
        "id": str(number), "package": "lldeg", "name": valid(name) or RELEASE, "timestamp": now,
        "hostname": "localhost", "tests": str(len(cases)), "failures": counts["failure"],
        "errors": counts["error"], "skipped": counts["skipped"], "time": "0",
    })  # fmt: skip
    ET.SubElement(suite, "properties")
    for case in cases:
        suite.append(_element(case))
    ET.SubElement(suite, "system-out").text = valid(output)
    ET.SubElement(suite, "system-err")
    return suite


def _element(case: TestCase) -> ET.Element:
    names = {"classname": f"lldeg.{valid(case.suite)}", "name": valid(case.name), "time": "0"}
    element = ET.Element("testcase", names)
    if case.kind is not None:
        told = {"message": valid(case.message)} | ({} if case.kind == "skipped" else {"type": case.code})
        ET.SubElement(element, case.kind, told).text = valid(case.details)
    return element
