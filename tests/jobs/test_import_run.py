"""`lldeg import`: a run directory made of other people's results reads like any other."""

import json
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from analyze_runner import run_analyze
from standin.faults import FailingDisk
from standin.rows import samples
from typer.testing import CliRunner

from jobs.commands.import_ import import_
from orchestrator.errors import UserError

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(import_)


def run_import(*arguments, out):
    """Run the command; raises what it raises."""
    done = CliRunner().invoke(app, [str(a) for a in arguments] + ["--out", str(out)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return out


def a_table(folder):
    """A score table of two models with reruns, clusters and temperatures."""
    rows = ["model,prompt_id,rerun,temperature,case,score"]
    for model, least in (("base", 1), ("int4", 3)):
        rows += [
            f"{model},q{i},{r},0.3,c{i // 4},{int((i + r) % 5 >= least)}" for i in range(40) for r in range(3)
        ]
    path = folder / "scores.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def lm_eval_folder(folder, scores):
    """Sample files of one model: two filters, one corpus metric."""
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "doc_id": i + 7,
                "doc": {"q": f"q{i}"},
                "target": "4",
                "arguments": {"gen_args_0": {"arg_0": f"ask {i}"}},
                "resps": [["four"]],
                "filtered_resps": ["4"],
                "filter": name,
                "metrics": ["exact_match", "f1"],
                "doc_hash": f"d{i}",
                "prompt_hash": f"p{i}",
                "exact_match": score,
                "f1": [1, 1],
            }
        )
        for i, score in enumerate(scores)
        for name in ("strict", "flexible")
    ]
    (folder / "samples_gsm_2025-01-01T10-00-00.000001.jsonl").write_text("\n".join(lines))
    return folder


def without_reasons(comparison):
    """What has to agree: everything but names of tests' metrics."""
    return {key: value for key, value in comparison.items() if key != "tasks"}


def test_an_imported_table_gives_the_same_verdicts(tmp_path):
    """Score tables, read directly or imported first, end in the same numbers."""
    table = a_table(tmp_path)
    direct = run_analyze(table, out=tmp_path / "a")
    imported = run_analyze(run_import(table, out=tmp_path / "run"), out=tmp_path / "b")
    assert imported.code == direct.code
    assert without_reasons(imported.comparison("int4")) == without_reasons(direct.comparison("int4"))


def test_imported_labels_can_be_clusters(tmp_path):
    """A label of the table is a column of the run's documents."""
    run = run_import(a_table(tmp_path), out=tmp_path / "run")
    assert run_analyze(run, "--cluster", "case", out=tmp_path / "out").comparison("int4")["clusters"] == 10


@pytest.mark.slow
def test_imported_lm_eval_output_gives_the_same_verdicts(tmp_path):
    """Sample files, read directly or imported first, end in the same numbers, whichever filter is chosen."""
    folders = [
        lm_eval_folder(tmp_path / "base", [1.0] * 30),
        lm_eval_folder(tmp_path / "v", [0.0] * 9 + [1.0] * 21),
    ]
    run = run_import(*folders, out=tmp_path / "run")
    for metric in ("strict", "flexible"):
        options = ("--metric", f"gsm=exact_match,{metric}")
        direct = run_analyze(*folders, *options, out=tmp_path / "a").comparison("v")
        imported = run_analyze(run, *options, out=tmp_path / "b").comparison("v")
        assert without_reasons(imported) == without_reasons(direct)


def test_responses_prompts_and_all_numeric_metrics_are_kept(tmp_path):
    """A plain Parquet reader finds the response, every number, and the prompt once in items."""
    import duckdb

    folders = [lm_eval_folder(tmp_path / name, [1.0] * 3) for name in ("base", "v")]
    run = run_import(*folders, out=tmp_path / "run")
    samples = f"read_parquet('{run}/samples/**/*.parquet', hive_partitioning = true)"
    query = f"select variant, item, response, filtered.strict, scores from {samples} order by variant, item"
    scores = {"exact_match,strict": 1.0, "exact_match,flexible": 1.0}
    assert duckdb.sql(query).fetchall()[0] == ("base", 7, "four", "4", scores)
    assert duckdb.sql(f"select prompt from '{run}/items/gsm.parquet' order by item").fetchall()[0] == (
        "ask 0",
    )


def test_importing_into_a_run_is_refused(tmp_path):
    """An existing run is not mixed with other results."""
    table = a_table(tmp_path)
    run = run_import(table, out=tmp_path / "run")
    with pytest.raises(UserError, match="already a run directory"):
        run_import(table, out=run)


@pytest.mark.parametrize("step", [16, 24])
def test_what_a_killed_import_left_does_not_mix(tmp_path, step):
    """Something smaller, imported into the same folder, is all that is in it."""
    table, out = a_table(tmp_path), tmp_path / "run"
    with FailingDisk(tmp_path, step, for_good=True), suppress(UserError):
        run_import(table, out=out)
    assert list(out.rglob("*.parquet"))
    table.write_text("model,prompt_id,score\nbase,q0,1\nv,q0,0\n")
    run_import(table, out=out)
    assert [(row["variant"], row["item"]) for row in samples(out)] == [("base", 0), ("v", 0)]


def test_samples_without_a_manifest_are_not_taken_for_an_import(tmp_path):
    """They may be those of a sweep: nothing of them is removed, and nothing is added."""
    out = run_import(a_table(tmp_path), out=tmp_path / "run")
    (out / "manifest.json").unlink()
    before = samples(out)
    with pytest.raises(UserError, match="already a run directory"):
        run_import(a_table(tmp_path), out=out)
    assert samples(out) == before


def test_a_run_is_not_imported(tmp_path):
    """What is a run needs no import."""
    run = run_import(a_table(tmp_path), out=tmp_path / "run")
    with pytest.raises(UserError, match="analyze it directly"):
        run_import(run, out=tmp_path / "other")


def test_empty_texts_of_other_tools_are_answers(tmp_path):
    """Their tools may keep no text of what was scored: import changes no verdict."""
    run = run_import(a_table(tmp_path), out=tmp_path / "run")
    for path in (run / "samples").rglob("*.parquet"):
        kept = pq.read_table(path, partitioning=None)
        place = kept.schema.get_field_index("response")
        pq.write_table(kept.set_column(place, "response", pa.array([""] * len(kept))), path)
    ran = run_analyze(run, out=tmp_path / "out")
    assert ran.comparison("int4")["failed_answers"] == [0, 0]
