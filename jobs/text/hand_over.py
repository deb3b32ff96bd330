"""What a pipeline takes from an analysis: the formats of --format, and the same as files."""

import json

from jobs.analysis.compare import Analysis
from jobs.analysis.gate import GateName
from jobs.analysis.options import Format
from jobs.analysis.outputs import verdicts, verdicts_json
from jobs.analysis.policy.decision import Decision, decision_entry, decision_json
from jobs.analysis.worst_tasks import Tasks
from jobs.text.decision import print_decision
from jobs.text.headline import headline
from jobs.text.junit import junit
from jobs.text.markdown import markdown
from jobs.text.terminal import terminal
from jobs.text.verdict_tables import print_analysis


def hand_over_files(analysis: Analysis, decision: Decision | None, gate: GateName) -> dict[str, str]:
    """The texts of summary.md, junit.xml and, with a policy, decision.json, by name.

    Args:
        analysis: what was found.
        decision: of the policy, if there is one.
        gate: what passes without a policy.
    """
    contents = {
        "summary.md": markdown(analysis, decision=decision),
        "junit.xml": junit(analysis, gate, decision),
    }
    if decision is not None:
        contents["decision.json"] = decision_json(decision)
    return contents


def formatted(
    analysis: Analysis, decision: Decision | None, gate: GateName, format_: Format, tasks: Tasks
) -> str:
    """The verdicts in one of the formats for programs and documents."""
    match format_:
        case Format.JUNIT:
            return junit(analysis, gate, decision)
        case Format.LINE:
            return f"{headline(analysis, decision)}\n"
        case Format.MARKDOWN:
            return markdown(analysis, tasks, decision)
    if decision is None:
        return verdicts_json(analysis)
    both = verdicts(analysis) | {"decision": decision_entry(decision)}
    return json.dumps(both, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_tables(analysis: Analysis, decision: Decision | None, tasks: Tasks) -> None:
    """The verdicts as tables on the terminal, and then the decision of a policy."""
    console = terminal()
    print_analysis(analysis, console, tasks)
    if decision is not None:
        print_decision(decision, console)
