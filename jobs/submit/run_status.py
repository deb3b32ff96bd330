"""How far a run is, whether a submit is running or not."""

from typing import Any

from jobs.formats.run_counts import Footers, total
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import VariantStatus, read_status


def run_status(url: str) -> dict[str, Any]:
    """The progress of a run, as JSON values.

    Counts come from the samples on disk; rates, replicas and notes come from the last heartbeat of the submit
    that is running, or of the last one that ran.

    Raises:
        UserError: the URL is not a run directory.
    """
    run = RunFiles.open(url)
    counts = Footers().count(run)
    told, running = read_status(run.store), is_running(run.store)
    whole = total(counts.values())
    variants = {}
    for name, count in counts.items():
        last = told.variants.get(name, VariantStatus())
        variants[name] = last.model_dump(exclude={"looks", "prompt_tokens", "output_tokens"}) | {
            "planned": count.planned,
            "done": count.done,
            "missing": count.needed - count.done,
            "not_needed": count.not_needed,
            "errors": count.errors,
            "replicas": last.replicas if running else 0,
            "looks": [look.as_json() for look in last.looks],
        }
    missing = whole.needed - whole.done
    return {
        "run": url,
        "state": "running" if running else "incomplete" if missing else "complete",
        "planned": whole.planned,
        "done": whole.done,
        "missing": missing,
        "errors": whole.errors,
        "damaged": list(whole.damaged),
        "seconds_left": told.seconds_left if running else None,
        **told.model_dump(include={"last_heartbeat", "host", "pid"}),
        "variants": variants,
        "replicas": [replica.model_dump() for replica in told.replicas if running],
        "problem": told.problem if running else None,
        "notes": told.notes,
    }
