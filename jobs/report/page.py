"""The files of an analysis, and above all the page: what was found, for people, as HTML inside one file.

Everything on it is a view of verdicts.json and the manifests, and each number is there twice, rounded to be
read and in full to be checked (`<data value>`). Markup escapes by default, JSON inside a script element
cannot end it, and a content security policy names the digests of the page's own style and script, so that
markup that slipped through could still load and run nothing.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jobs.analysis.compare import Analysis, GateName
from jobs.report.flips import GRAVEST_FIRST, embedded, flips_of
from jobs.report.plots import drop_axis, limits, look_plot, score_curves, success_histograms, trade_off
from jobs.report.texts import Texts, visible
from jobs.text import format as words
from jobs.text import meaning
from jobs.text.changes import change_rows, change_terms
from jobs.text.junit import junit
from jobs.text.outputs import decision_entry, json_text, output_files, verdicts
from jobs.text.reasons import worded
from jobs.text.tables import markdown
from orchestrator.rundir.whole_files import FileSet
from stats.results import Settings
from stats.tasks.combinations import default_first
from stats.verdict import Verdict

FILES = (
    "report.html", "summary.csv", "model_comparison.csv", "model_differences.csv",
    "summary_without_stderr.csv", "summary_with_stderr.csv", "measurements.csv", "aggregates.csv",
    "summary.md", "junit.xml", "decision.json", "verdicts.json",
)  # fmt: skip
"""Of an analysis, in the order in which they appear: where there are verdicts, the others belong to them."""
FOLDER = Path(__file__).parent
NO_VALUE = "–"
MOST_GAPS = 50  # number of tasks with missing answers that the page lists
P_VALUES = (
    ("p adjusted", "p_adjusted"),
    *((f"p {c.title}", c.field) for c in default_first(Settings.combine) if c.keeps_level),
    ("p non-inferior", "p_noninferior"),
)
"""Columns of the table of all numbers: heading and field. Where looks decide, no other test is made than the
first and the last."""
WORDS = {Verdict.DEGRADED: "worse", Verdict.INCONCLUSIVE: "inconclusive", Verdict.CERTIFIED: "non-inferior"}


def analysis_files(out: str) -> FileSet:
    """The files of an analysis in a folder, a path or a URL; they are there together or not at all."""
    return FileSet(out, "analyze", FILES)


def write_analysis(analysis: Analysis, out: str, gate: GateName) -> None:
    """Put the files of an analysis in the place of those of an earlier one; if that fails, neither are there.

    The folder is a path or a URL, and made if it is not there; the gate is what passes without a policy.

    Raises:
        UserError: the folder cannot be written to.
    """
    texts = {"report.html": report(analysis)} | output_files(analysis)
    texts["summary.md"] = markdown(analysis)
    texts["junit.xml"] = junit(worded(analysis), gate)
    if analysis.decision is not None:
        texts["decision.json"] = json_text(decision_entry(analysis.decision))
    analysis_files(out).replace({name: texts[name].encode() for name in sorted(texts, key=FILES.index)})


def report(analysis: Analysis) -> str:
    """report.html: the whole page in one file, with prompts and answers where the input holds any."""
    answers = max(sum(result.comparison.reruns) for result in analysis.results)
    flips = embedded(flips_of(analysis), Texts(analysis.scores.runs), answers)
    return render("report.html.jinja", {"content": content_of(analysis), "flips": flips, "live": False})


def content_of(analysis: Analysis) -> dict[str, Any]:
    """What the page says but the flips, in the words of its template.

    Returns:
        Among others the content of verdicts.json (`verdicts`), and for each variant, the gravest first, a
        card with its cases: one per temperature, with its entry in verdicts.json.
    """
    content, decision = verdicts(analysis), analysis.decision
    manifests = [run.manifest for run in analysis.scores.runs]
    by_variant: dict[str, dict[str, Any]] = {}
    for entry, result in zip(content["comparisons"], analysis.results, strict=True):
        verdict = result.comparison.verdict
        card = by_variant.setdefault(
            result.variant, {"variant": result.variant, "verdict": verdict, "cases": []}
        )
        card["verdict"] = min(card["verdict"], verdict, key=GRAVEST_FIRST.index)
        texts = {"sentence": meaning.meaning(result, analysis), "margin": meaning.margin_text(result)}
        card["cases"].append({"entry": entry, "axis": drop_axis(entry["tasks"])} | texts)
    cards = sorted(by_variant.values(), key=lambda card: GRAVEST_FIRST.index(card["verdict"]))
    cases = [case for card in cards for case in card["cases"]]
    return {
        "title": ", ".join(str(manifest.get("name", "run")) for manifest in manifests) or "Comparison",
        "headline": _headline([card["verdict"] for card in cards], analysis.baseline),
        "verdicts": content,
        "level": analysis.level_of(analysis.results[0]),
        "cards": cards,
        "cases": cases,
        "tasks": list(dict.fromkeys(task["task"] for case in cases for task in case["entry"]["tasks"])),
        "axis": drop_axis(content["comparisons"]),
        "p_values": P_VALUES if content["stopping"] is None else (P_VALUES[0], P_VALUES[-1]),
        "changes": [
            (entry, change, cells)
            for entry, result in zip(content["comparisons"], analysis.results, strict=True)
            for change, cells in zip(entry["changes"], change_rows(result, same=True), strict=True)
        ],
        "change_terms": change_terms(analysis),
        "gaps": meaning.gap_lines(analysis.results, MOST_GAPS),
        "notes": meaning.notes(analysis),
        "looks": [look_plot(entry) for entry in content["comparisons"] if entry["looks"]],
        "curves": score_curves(content),
        "trade_off": trade_off(content),
        "histograms": success_histograms(analysis),
        "runs": [_run(manifest, analysis.baseline) for manifest in manifests],
        "policy": decision
        and {
            "decision": decision,
            "decided": meaning.STATUS_WORDS[decision.status],
            "header": meaning.CASE_HEADER,
            "rows": meaning.case_rows(decision),
            "sentences": meaning.decision_lines(decision),
        },
    }


def _headline(cards: Sequence[Verdict], baseline: str) -> str:
    """The answer in one sentence: how many variants are worse, inconclusive and non-inferior."""
    bad = cards.count(Verdict.DEGRADED)
    who = f"{bad or 'None'} of {len(cards)} variants" if len(cards) > 1 else "The variant"
    is_ = "are" if bad > 1 else "is" if bad or len(cards) > 1 else "is not"
    worse = f"{who} {is_} significantly worse than {baseline}"
    rest = [f"{cards.count(v)} {WORDS[v]}" for v in GRAVEST_FIRST[1:] if v in cards]
    return f"{worse}; {', '.join(rest)}." if rest else f"{worse}."


def _run(manifest: Mapping[str, Any], baseline: str) -> dict[str, Any]:
    """A run: what is set for the baseline and different for each variant, and its manifest as text."""
    variants: dict[str, dict[str, str]] = {}
    for name, entry in manifest["variants"].items():
        parts = {key: entry.get(key) for key in ("model", "revision")} | (entry.get("engine") or {})
        variants[name] = {key: str(value) for key, value in parts.items() if value is not None}
    base, settings = variants.get(baseline, {}), {}
    for name, own in variants.items():
        compared = {} if name == baseline else base
        changed = [f"{key} = {value}" for key, value in own.items() if compared.get(key) != value]
        changed += [f"without {key}" for key in compared if key not in own]
        text = " · ".join(changed)
        if compared:
            text = f"as {baseline}, but {text}" if changed else f"as {baseline}"
        settings[name] = text
    tasks = {
        task: {key: value for key, value in entry.items() if key != "definition"}
        for task, entry in manifest["tasks"].items()
    }
    text = json.dumps({**manifest, "tasks": tasks}, indent=2, ensure_ascii=False)
    name = str(manifest.get("name", "run"))
    return {"name": name, "manifest": manifest, "settings": settings, "text": text}


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template of this package with what it needs besides style, script and policy."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digests = (hashlib.sha256(text.encode()).digest() for text in (style, script))
    of_style, of_script = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = (
        f"default-src 'none'; style-src {of_style}; script-src {of_script}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = _templates().get_template(template)
    return page.render(values, style=Markup(style), script=Markup(script), policy=policy)  # noqa: S704 - files of this package


@cache
def _templates() -> Environment:
    """The templates of this package, each of which is compiled once."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment


def script_json(value: Any) -> Markup:
    """A value as JSON that is safe in a script element: nothing in it closes the element or opens another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - made safe above


def _p(p: float) -> str | Markup:
    """A p-value, powers of ten in full print: 4.8 × 10⁻¹⁵."""
    digits, _, power = words.p_text(p).partition("e")
    return Markup("{} × 10<sup>−{}</sup>").format(digits, abs(int(power))) if power else digits


def _or_dash(text: Callable[..., object]) -> Callable[..., object]:
    """A filter that shows a dash for a number that is not finite or was not computed."""
    return lambda value, *given, **options: NO_VALUE if value is None else text(value, *given, **options)


FILTERS: dict[str, Callable[..., object]] = {
    "clean": words.clean,
    "visible": visible,
    "full": json.dumps,  # a value of verdicts.json exactly as it is there, without rounding
    "script_json": script_json,
    "p": _or_dash(_p),
    "limits": limits,
    "percent": _or_dash(words.percent),
    "amount": _or_dash(lambda drop, unit, **sign: words.amount(drop, unit, **sign).replace("-", "−")),
    "score": _or_dash(words.score_text),
    "number": _or_dash("{:,}".format),
    "temperature": words.temperature_text,
}
