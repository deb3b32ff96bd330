"""The verdicts as JUnit XML, which CI systems show as tests.

Damage is a failure, and what could not be shown an error, so that a pipeline that goes by the file agrees
with one that goes by the exit status. The elements are those of the schema of Apache Ant's JUnit task.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, get_args
from xml.etree import ElementTree as ET

from jobs.analysis.compare import UNSOUND, Analysis, GateName
from jobs.analysis.policy import Decision, Ruling
from jobs.text.changes import change_text
from jobs.text.format import clean
from jobs.text.meaning import headline, judged_first, place, required_text, task_name
from stats.change import ChangeVerdict
from stats.verdict import Verdict

Kind = Literal["failure", "error", "skipped"]
INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
KINDS: dict[Ruling, Kind] = {
    Ruling.BLOCKED: "failure",
    Ruling.INSUFFICIENT: "error",
    Ruling.WATCHED: "skipped",
}
RELEASE = "release"

Case = tuple[str, str, Kind | None, str, str, str]
"""Suite, name, what is wrong if anything is, its code, the message and details."""


def junit(analysis: Analysis, gate: GateName) -> str:
    """The cases of a policy, or without one the comparisons, as a JUnit document; reasons are in words."""
    decision = analysis.decision
    told = _compared(analysis, gate) if decision is None else _judged(decision)
    suites: dict[str, list[ET.Element]] = defaultdict(list)
    for suite, name, kind, code, message, details in told:
        attributes = {"classname": f"lldeg.{valid(suite)}", "name": valid(name), "time": "0"}
        element = ET.Element("testcase", attributes)
        if kind is not None:
            wrong = {"message": valid(message)} | ({} if kind == "skipped" else {"type": code})
            ET.SubElement(element, kind, wrong).text = valid(details)
        suites[suite].append(element)
    root, now = ET.Element("testsuites"), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for number, (name, cases) in enumerate(suites.items()):
        counts = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in get_args(Kind)}
        tests = ET.SubElement(root, "testsuite", {
            "id": str(number), "package": "lldeg", "name": valid(name) or RELEASE, "timestamp": now,
            "hostname": "localhost", "tests": str(len(cases)), "failures": counts["failure"],
            "errors": counts["error"], "skipped": counts["skipped"], "time": "0",
        })  # fmt: skip
        ET.SubElement(tests, "properties")
        tests.extend(cases)
        ET.SubElement(tests, "system-out").text = valid(headline(analysis))
        ET.SubElement(tests, "system-err")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def valid(text: str) -> str:
    """Text that XML 1.0 can hold, on one line."""
    return INVALID.sub("\ufffd", clean(text))


def _judged(decision: Decision) -> Iterator[Case]:
    for reason in decision.reasons:
        yield RELEASE, RELEASE, "error", reason.code, reason.text, ""
    for case in judged_first(decision):
        message = " ".join(reason.text for reason in case.reasons)
        codes = " ".join(reason.code for reason in case.reasons)
        details = f"required: {required_text(case)}; reasons: {codes}"
        suite, kind = place(case.variant, case.temperature), KINDS.get(case.status)
        yield suite, task_name(case), kind, case.reasons[0].code, message, details


def _compared(analysis: Analysis, gate: GateName) -> Iterator[Case]:
    if analysis.incomplete or (gate == "certified" and analysis.lacks_answers):
        said = "Planned samples are missing or failed."
        yield RELEASE, "complete", "error", "incomplete-run", said, ""
    if notice := analysis.unsound(gate):
        yield RELEASE, "looks" if notice.code in UNSOUND else "prompts", "error", notice.code, notice.text, ""
    if gate == "changed" and analysis.unmeasured:
        yield RELEASE, "measurements", "error", "not-measured", analysis.explain_status(gate) or "", ""
    for result in analysis.results:
        verdict, reasons = result.comparison.verdict, result.comparison.reasons
        kind: Kind | None = "failure" if verdict is Verdict.DEGRADED else None
        if gate == "certified" and verdict is Verdict.INCONCLUSIVE:
            kind = "error"
        suite = place(result.variant, result.temperature)
        yield suite, "all tasks", kind, verdict.value, reasons[0], " ".join(reasons)
        for change in result.changes if gate == "changed" else ():
            kind = "failure" if change.verdict is ChangeVerdict.CHANGED else None
            yield suite, change.measurement, kind, change.verdict.value, change_text(change), ""
