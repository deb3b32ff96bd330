"""What the page says, in the order it says it: verdicts, plots, tasks, reruns, what was run.

Everything here is a view of verdicts.json and the manifests; the template only lays it out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.analysis.compare import Analysis
from jobs.analysis.policy.decision import Decision
from jobs.report.flips import GRAVEST_FIRST
from jobs.report.forest import Axis, drop_axis
from jobs.report.looks import LookPlot, look_plots
from jobs.report.reruns import Curves, Histogram, curves_of, histograms_of
from jobs.text.decision import CASE_HEADER, STATUS_WORDS, case_rows, decision_lines
from jobs.text.meaning import gap_lines, margin_text, meaning, notes
from jobs.text.outputs import verdicts
from stats.results import Settings
from stats.tasks.combinations import default_first
from stats.verdict import Verdict

Entry = Mapping[str, Any]
MOST_GAPS = 50
"""Number of tasks with missing answers that the page lists."""

P_VALUES = (
    ("p adjusted", "p_adjusted"),
    *((f"p {c.title}", c.field) for c in default_first(Settings.combine) if c.keeps_level),
    ("p non-inferior", "p_noninferior"),
)
"""Columns of the table of all numbers: heading and field."""

P_VALUES_OF_LOOKS = (P_VALUES[0], P_VALUES[-1])
"""The same where looks decide: no other test is made."""

WORDS = {Verdict.DEGRADED: "worse", Verdict.INCONCLUSIVE: "inconclusive", Verdict.CERTIFIED: "non-inferior"}


@dataclass(frozen=True)
class Case:
    """One comparison: its entry in verdicts.json, its meaning and margin in words, the axis of its tasks."""

    entry: Entry
    sentence: str
    margin: str
    axis: Axis
    unit: str


@dataclass(frozen=True)
class Card:
    """A variant with its cases, one per temperature, and the gravest verdict among them."""

    variant: str
    verdict: Verdict
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Ran:
    """One run: its name, the baseline, its manifest, and what is worth reading of it."""

    name: str
    baseline: str
    manifest: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, str]:
        """Model and engine of the baseline, and of every variant what is different."""
        variants = self.manifest["variants"]
        base = _flat(variants[self.baseline]) if self.baseline in variants else {}
        return {
            name: _settings(_flat(entry), {} if name == self.baseline else base, self.baseline)
            for name, entry in variants.items()
        }

    @property
    def text(self) -> str:
        """The manifest as JSON without the task definitions, which are long."""
        tasks = {
            name: {key: value for key, value in entry.items() if key != "definition"}
            for name, entry in self.manifest["tasks"].items()
        }
        return json.dumps({**self.manifest, "tasks": tasks}, indent=2, ensure_ascii=False)


@dataclass(frozen=True)
class Content:
    """All of the page but the flips."""

    title: str
    headline: str
    verdicts: Mapping[str, Any]
    cards: tuple[Card, ...]
    axis: Axis
    unit: str
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    looks: tuple[LookPlot, ...]
    curves: Curves | None
    histograms: tuple[Histogram, ...]
    ran: tuple[Ran, ...]
    decision: Decision | None = None
    policy_header: Sequence[str] = CASE_HEADER

    @property
    def decided(self) -> str:
        """The decision of the policy in words; empty without one."""
        return "" if self.decision is None else STATUS_WORDS[self.decision.status]

    @property
    def policy_rows(self) -> list[tuple[str, ...]]:
        """The cases that the policy names, those that keep the release from passing first."""
        return [] if self.decision is None else case_rows(self.decision)

    @property
    def policy_sentences(self) -> list[str]:
        """Why the release does not pass."""
        return [] if self.decision is None else decision_lines(self.decision)

    @property
    def p_values(self) -> Sequence[tuple[str, str]]:
        """Head and field of the columns of p-values: those of the tests that were made."""
        return P_VALUES if self.verdicts["stopping"] is None else P_VALUES_OF_LOOKS

    @property
    def cases(self) -> list[Case]:
        """All comparisons, the gravest variant first."""
        return [case for card in self.cards for case in card.cases]

    @property
    def tasks(self) -> list[str]:
        """Names of all tasks."""
        return list(dict.fromkeys(task["task"] for case in self.cases for task in case.entry["tasks"]))


def content_of(
    analysis: Analysis, manifests: Sequence[Mapping[str, Any]], decision: Decision | None = None
) -> Content:
    """Put together what the page says.

    Args:
        analysis: what was found.
        manifests: of the runs behind it; empty where there are none.
        decision: of a policy, if there is one.
    """
    found = verdicts(analysis)
    said = [(meaning(result, analysis), margin_text(result)) for result in analysis.results]
    cards = _cards(found, said)
    return Content(
        title=", ".join(str(manifest.get("name", "run")) for manifest in manifests) or "Comparison",
        headline=_headline(cards, analysis.baseline),
        verdicts=found,
        cards=cards,
        axis=drop_axis(found["comparisons"]),
        unit=_unit(found["comparisons"]),
        gaps=tuple(gap_lines(analysis.results, MOST_GAPS)),
        notes=tuple(notes(analysis)),
        looks=tuple(look_plots(found["comparisons"])),
        curves=curves_of(found),
        histograms=tuple(histograms_of(analysis)),
        ran=tuple(
            Ran(str(manifest.get("name", "run")), analysis.baseline, manifest) for manifest in manifests
        ),
        decision=decision,
    )


def _cards(found: Mapping[str, Any], said: Sequence[tuple[str, str]]) -> tuple[Card, ...]:
    by_variant: dict[str, list[Case]] = {}
    for entry, (sentence, margin) in zip(found["comparisons"], said, strict=True):
        case = Case(entry, sentence, margin, drop_axis(entry["tasks"]), _unit(entry["tasks"]))
        by_variant.setdefault(entry["variant"], []).append(case)
    cards = [Card(variant, _gravest(cases), tuple(cases)) for variant, cases in by_variant.items()]
    return tuple(sorted(cards, key=lambda card: GRAVEST_FIRST.index(card.verdict)))


def _unit(entries: Sequence[Entry]) -> str:
    """What the drops of some entries on one axis are counted in."""
    units = {str(entry["margin_unit"]) for entry in entries}
    return units.pop() if len(units) == 1 else "mixed"


def _gravest(cases: Sequence[Case]) -> Verdict:
    return min((Verdict(case.entry["verdict"]) for case in cases), key=GRAVEST_FIRST.index)


def _headline(cards: Sequence[Card], baseline: str) -> str:
    """The answer in one sentence: how many variants are worse, how many undecided, how many non-inferior."""
    count = {verdict: sum(card.verdict is verdict for card in cards) for verdict in GRAVEST_FIRST}
    of = f"of {len(cards)} variants" if len(cards) > 1 else "variant"
    bad = count[Verdict.DEGRADED]
    worse = f"{bad or 'None'} {of} {'are' if bad > 1 else 'is'} worse than {baseline}"
    rest = [f"{count[v]} {WORDS[v]}" for v in GRAVEST_FIRST[1:] if count[v]]
    return f"{worse}; {', '.join(rest)}." if rest else f"{worse}."


def _flat(entry: Mapping[str, Any]) -> dict[str, str]:
    """What a variant is made of, as one level of names and texts."""
    parts = {"model": entry.get("model"), "revision": entry.get("revision"), **(entry.get("engine") or {})}
    return {key: str(value) for key, value in parts.items() if value is not None}


def _settings(own: Mapping[str, str], base: Mapping[str, str], baseline: str) -> str:
    """All of a variant's settings, or how they differ from a base."""
    changed = [f"{key} = {value}" for key, value in own.items() if base.get(key) != value]
    if not base:
        return " · ".join(changed)
    changed += [f"without {key}" for key in base if key not in own]
    return f"as {baseline}, but {' · '.join(changed)}" if changed else f"as {baseline}"
