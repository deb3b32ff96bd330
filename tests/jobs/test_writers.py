"""Two sides of a comparison that differ in software or hardware: warned of, and refused by --strict."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, cell_folder, make_run

from orchestrator.rundir.manifest import software_id
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.slow  # every step of a writer

RIGHT = [1, 0] * 30
HARDWARE = {"host": "a", "device": "H100", "cuda": "12.8", "driver": "550", "dtype": "bfloat16"}
MIXED = {"mixed-software", "mixed-hardware"}


def writer(vllm="0.27", commit="c", way=None, **hardware):
    """What wrote a file."""
    entry = {"versions": {"vllm": vllm}, "commit": commit, "log_likelihoods": way}
    return {**entry, "hardware": {**HARDWARE, **hardware}}


OLDER = {"versions": {"vllm": "0.27"}, "commit": "c"}
"""As versions of lldeg recorded it that knew no hardware."""


@pytest.fixture
def analyze(tmp_path):
    """Analyzes a run of files by such writers, two for each side; None leaves a file unsigned."""

    def analyze(base, variant, *options, change=lambda manifest: manifest, known=(), scores=RIGHT):
        tasks = {"t": MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [scores]})}
        run = make_run(tmp_path / "run", tasks)
        entries = [entry for entry in (*base, *variant, *known) if entry is not None]
        software = {software_id(entry): entry for entry in entries}
        for name, writers in {"base": base, "v": variant}.items():
            for path, entry in zip(sorted(cell_folder(run, name, "t").iterdir()), writers, strict=True):
                sign(run, name, path, entry)
        manifest = change({**json.loads((run / "manifest.json").read_text()), "software": software})
        (run / "manifest.json").write_text(json.dumps(manifest))
        return run_analyze(run, *options, out=tmp_path / "out")

    return analyze


def sign(run, variant, path, entry):
    """Write a file of samples again, by a writer."""
    table = pq.read_table(path, partitioning=None)
    name = None if entry is None else software_id(entry)
    RunStore(run).write_block(variant, "t", Path(path).stem, table, name)


def codes(ran):
    """Which of the two warnings there are."""
    return MIXED & set(ran.verdicts["warning_codes"])


H, OTHER_HOST = writer(), writer(host="b")


@pytest.mark.parametrize(
    ("base", "variant", "code", "said"),
    [
        ([H, H], [writer("0.28")] * 2, "mixed-software", 'versions.vllm: "0.27" → "0.28"'),
        ([H, H], [H, writer("0.28")], "mixed-software", 'versions.vllm: "0.27" → "0.28"'),
        ([H, H], [writer(commit="d")] * 2, "mixed-software", 'commit: "c" → "d"'),
        ([H, H], [writer(device="A100")] * 2, "mixed-hardware", 'device: "H100" → "A100"'),
        ([H, writer(device="A100")], [H, H], "mixed-hardware", 'device: "H100" → "A100"'),
        ([H, H], [writer(driver="570")] * 2, "mixed-hardware", 'driver: "550" → "570"'),
        ([H, H], [H, writer(dtype="float16")], "mixed-hardware", 'dtype: "bfloat16" → "float16"'),
    ],
)
def test_a_difference_is_said_and_refused_when_strict(analyze, base, variant, code, said):
    """With what differs, by a code of its own."""
    ran = analyze(base, variant)
    assert codes(ran) == {code}
    assert said in " ".join(ran.verdicts["warnings"])
    strict = analyze(base, variant, "--strict")
    assert strict.code == 2
    assert said in strict.error
    assert "--strict refuses" in strict.error


@pytest.mark.parametrize(
    ("base", "variant"),
    [
        ([H, H], [H, H]),
        ([H, OTHER_HOST], [OTHER_HOST, H]),
        ([H, H], [writer(dtype="float32")] * 2),
        ([OLDER, OLDER], [H, OLDER]),
        ([H, H], [writer(device=None, cuda=None, driver=None, dtype=None)] * 2),
    ],
    ids=["equal", "hosts", "formats-of-variants", "unknown-in-older-runs", "unknown-behind-a-server"],
)
def test_what_is_equal_unknown_or_meant_is_no_warning(analyze, base, variant):
    """Hosts are not hardware, a variant may have a format of its own, and unknown is not different."""
    ran = analyze(base, variant, "--strict")
    assert (ran.code, codes(ran)) == (0, set())


@pytest.mark.parametrize(
    ("asks", "expected"), [("multiple_choice", {"mixed-software"}), ("generate_until", set())]
)
def test_two_ways_to_log_likelihoods_are_said_where_there_are_some(analyze, asks, expected):
    """Not where all answers are texts; a way that is not known is none."""

    def ask(manifest):
        manifest["tasks"]["t"]["output_type"] = asks
        return manifest

    alone, shared = writer(way="alone"), writer(way="shared")
    assert codes(analyze([alone, H], [H, shared], change=ask)) == expected
    assert codes(analyze([alone, H], [H, alone], change=ask)) == set()


def test_a_variant_with_its_own_environment_may_have_other_versions(analyze):
    """They are what is compared; a mixture within it is still said."""

    def own(manifest):
        manifest["variants"]["v"]["versions"] = {"vllm": "0.28"}
        return manifest

    assert codes(analyze([H, H], [writer("0.28")] * 2, change=own)) == set()
    assert codes(analyze([H, H], [writer("0.28"), writer("0.29")], change=own)) == {"mixed-software"}


def test_rows_without_a_score_count_for_nobody(analyze):
    """What the driver writes of samples that killed their engines is not what it computed."""
    half = len(RIGHT) // 2
    ran = analyze([H, H], [H, writer(device="laptop")], scores=RIGHT[:half] + [None] * half)
    assert codes(ran) == set()


@pytest.mark.parametrize("unsigned", [None, writer("9.9")], ids=["no-id", "an-id-that-is-not-explained"])
def test_a_file_that_does_not_say_may_be_of_any_writer(analyze, unsigned):
    """Of a run that two have written."""

    def forget(manifest):
        manifest["software"].pop(software_id(writer("9.9")), None)
        return manifest

    ran = analyze([H, H], [H, unsigned], known=[writer("0.28")], change=forget)
    assert codes(ran) == {"mixed-software"}


def test_imported_samples_stay_unknown(analyze):
    """Of other tools' results nobody knows what wrote them."""
    ran = analyze(
        [None, None], [None, None], "--strict", change=lambda manifest: {**manifest, "imported": True}
    )
    assert (ran.code, codes(ran)) == (0, set())
