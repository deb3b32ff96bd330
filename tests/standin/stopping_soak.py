"""Sweeps that stop early under random kills: whatever dies, the same looks and the same decisions."""

import json

from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import identities, planned
from standin.soak import DEADLY, DEADLY_ITEM, ITEMS, Soak

LOOKS = 6


class StoppingSoak(Soak):
    """The same faults in a sweep of four variants, two of which are decided early; see `Soak`."""

    def _write_sweep(self, *, deadly):
        folder = self.folder / ("deadly" if deadly else "ordinary")
        docs = questions(2 * ITEMS)
        if deadly:
            docs[DEADLY_ITEM]["question"] = f"{DEADLY} Item {DEADLY_ITEM}"
        write_task(folder / "pack", "first", docs, **GENERATE)
        write_task(folder / "pack", "second", questions(ITEMS), **GENERATE)
        options = {"pace": 0.1, "pids": str(folder / "pids")}
        return write_sweep(
            folder,
            engine={"kind": "lm-eval:standin.soak:Paced", **options},
            variants={
                "base": {},
                "broken": {"engine": {"slips": 0.4}},
                "worse": {"engine": {"slips": 0.1, "dies": deadly}},
                "same": {"engine": {"pace": 0.11}},
            },
            tasks=["first", "second"],
            sampling={"temperatures": [0.0, 0.7], "seeds": 2},
            cluster={"replicas": 3, "cpus_per_replica": 1},
            analysis={"margin": 0.05},
            stopping={"looks": LOOKS, "until": "decided", "seed": 0},
        )

    def result(self, run):
        """Looks and decisions, as the sweep noted them, what the ledger says of these, and the final tables.

        Which looks beyond a decision the ledger has depends on the order in which variants were decided.
        """
        looks = json.loads((run / "looks.json").read_text())
        final = {
            (entry["variant"], entry["temperature"], look["look"])
            for entry in looks["comparisons"]
            for look in entry["looks"]
        }
        first, *lines = map(json.loads, (run / "looks.jsonl").read_text().splitlines())
        facts = {
            (*(line[key] for key in ("variant", "temperature", "look")), line["scores"]) for line in lines
        }
        ledger = first["begins_late"], {fact for fact in facts if fact[:3] in final}
        return {"looks": looks, "ledger": ledger, "tables": super().result(run)}

    def expected_rows(self, run):
        """Any part of the plan: what was in flight at a decision may have been written or not."""
        return identities(run) & planned(run)
