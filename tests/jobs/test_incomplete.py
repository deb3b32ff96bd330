"""`--gate certified` on inputs that lack something: whatever is missing, the exit status is never 0."""

import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from lm_eval_maker import FIRST, SECOND, write_results, write_samples
from standin.runs import MadeTask, cell_folder, make_run
from typer.testing import CliRunner

N = 600
RIGHT = [1] * 400 + [0] * 200
HEADER = "model,task,temperature,rerun,prompt_id,score"


def rows(keep=lambda row: True):
    """Baseline and variant with equal answers to two tasks at two temperatures, twice each."""
    return [
        row
        for model in ("base", "v")
        for task in ("a", "b")
        for temperature in (0.3, 0.7)
        for rerun in (0, 1)
        for item, score in enumerate(RIGHT)
        if keep(row := (model, task, temperature, rerun, item, score))
    ]


def write_csv(path, kept):
    """Write such rows."""
    path.write_text("\n".join([HEADER, *(",".join(map(str, row)) for row in kept)]) + "\n")
    return path


def a_run(folder, change=None, **sweep):
    """A run with equal answers to one sampled and one greedy task; `change` edits the scores."""
    scores = {"sampled": {}, "greedy": {}}
    for model in ("base", "v"):
        scores["sampled"][model, 0.7] = [list(RIGHT), list(RIGHT)]
        scores["greedy"][model, 0.0] = [list(RIGHT)]
    if change:
        change(scores)
    return make_run(folder, {name: MadeTask(found) for name, found in scores.items()}, **sweep)


def edited(task, key, rerun, items, value):
    """A change of a run: some answers of one model are owed or failed."""

    def change(scores):
        for item in items:
            scores[task][key][rerun][item] = value

    return change


class Ways:
    """Each method makes an input that lacks what its name says and returns the command's arguments."""

    def csv_one_item_of_the_variant(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[1] != "a" or r[4] != 17))]

    def csv_one_item_of_the_baseline(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "base" or r[1] != "a" or r[4] != 17))]

    def csv_a_third_of_the_right_ones(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[5] == 0 or r[4] % 3))]

    def csv_a_task_of_the_variant(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[:2] != ("v", "b")))]

    def csv_a_task_of_the_baseline(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[:2] != ("base", "b")))]

    def csv_a_temperature_of_the_variant(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[2] != 0.7))]

    def csv_a_temperature_of_the_baseline(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "base" or r[2] != 0.7))]

    def csv_a_temperature_of_one_task(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[:3] != ("v", "b", 0.7)))]

    def csv_half_of_the_reruns(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[3] == 0))]

    def csv_a_rerun_of_half_of_the_items(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[3] == 0 or r[4] % 2))]

    def csv_a_score(self, at):
        path = write_csv(at / "t.csv", rows())
        path.write_text(path.read_text().replace("v,a,0.3,0,5,1", "v,a,0.3,0,5,"))
        return [path]

    def csv_a_score_that_is_an_error(self, at):
        path = write_csv(at / "t.csv", rows())
        path.write_text(path.read_text().replace("v,a,0.3,0,5,1", "v,a,0.3,0,5,TimeoutError"))
        return [path]

    def csv_everything_but_the_header(self, at):
        return [write_csv(at / "base.csv", rows()), write_csv(at / "v.csv", [])]

    def csv_everything(self, at):
        (at / "v.csv").write_text("")
        return [write_csv(at / "base.csv", rows()), at / "v.csv"]

    def csv_the_file(self, at):
        return [write_csv(at / "base.csv", rows()), at / "v.csv"]

    def csv_the_variant(self, at):
        return [write_csv(at / "t.csv", rows(lambda r: r[0] == "base"))]

    def listing_a_task(self, at):
        table = at / "scores.csv"
        table.write_text("prompt_id,score\n" + "\n".join(f"{i},{s}" for i, s in enumerate(RIGHT)) + "\n")
        listing = {"base": {"a": table.name, "b": table.name}, "v": {"a": table.name}}
        (at / "list.json").write_text(json.dumps(listing))
        return [at / "list.json"]

    def lm_eval_documents_of_one(self, at):
        write_samples(at / "base", RIGHT)
        write_samples(at / "v", RIGHT[:-1])
        return [at / "base", at / "v"]

    def lm_eval_documents_of_both(self, at):
        for name in ("base", "v"):
            write_samples(at / name, RIGHT)
            write_results(at / name, evaluated=N + 100)
        return [at / "base", at / "v"]

    def lm_eval_everything_in_a_file(self, at):
        write_samples(at / "base", RIGHT)
        write_samples(at / "v", RIGHT).write_text("")
        return [at / "base", at / "v"]

    def lm_eval_everything_in_one_of_two_files(self, at):
        for name in ("base", "v"):
            write_samples(at / name, RIGHT, task="gsm")
            path = write_samples(at / name, RIGHT, task="other")
        path.write_text("")
        return [at / "base", at / "v"]

    def lm_eval_a_task(self, at):
        for name in ("base", "v"):
            write_samples(at / name, RIGHT, task="gsm")
        write_samples(at / "base", RIGHT, task="other")
        return [at / "base", at / "v"]

    def lm_eval_a_rerun(self, at):
        for name, dates in (("base", (FIRST, SECOND)), ("v", (FIRST,))):
            for date in dates:
                write_samples(at / name, RIGHT, date=date)
                write_results(at / name, date=date, temperature=0.6)
        return [at / "base", at / "v"]

    def lm_eval_a_number(self, at):
        write_samples(at / "base", RIGHT)
        write_samples(at / "v", [*RIGHT[:-1], float("nan")])
        return [at / "base", at / "v"]

    def lm_eval_the_samples(self, at):
        write_samples(at / "base", RIGHT)
        write_results(at / "v")
        return [at / "base", at / "v"]

    def run_one_item_of_the_variant(self, at):
        return [a_run(at / "run", edited("greedy", ("v", 0.0), 0, [5], "owed"))]

    def run_one_item_of_both(self, at):
        def change(scores):
            for model in ("base", "v"):
                scores["greedy"][model, 0.0][0][5] = "owed"

        return [a_run(at / "run", change)]

    def run_half_of_the_reruns(self, at):
        return [a_run(at / "run", edited("sampled", ("v", 0.7), 1, range(N), "owed"))]

    def run_half_of_the_reruns_of_the_baseline(self, at):
        return [a_run(at / "run", edited("sampled", ("base", 0.7), 1, range(N), "owed"))]

    def run_an_answer_of_the_variant_that_failed(self, at):
        return [a_run(at / "run", edited("greedy", ("v", 0.0), 0, [5], None))]

    def run_an_answer_of_the_baseline_that_failed(self, at):
        return [a_run(at / "run", edited("greedy", ("base", 0.0), 0, [5], None))]

    def run_one_rerun_that_failed(self, at):
        return [a_run(at / "run", edited("sampled", ("v", 0.7), 1, [5], None))]

    def run_all_answers_of_a_variant(self, at):
        run = a_run(at / "run")
        shutil.rmtree(cell_folder(run, "v", "greedy").parent)
        return [run]

    def run_all_answers_to_a_task(self, at):
        run = a_run(at / "run")
        shutil.rmtree(cell_folder(run, "v", "greedy"))
        return [run]

    def run_all_answers_to_a_task_of_both(self, at):
        run = a_run(at / "run")
        for model in ("base", "v"):
            shutil.rmtree(cell_folder(run, model, "greedy"))
        return [run]

    def run_a_variant_of_the_sweep(self, at):
        return [a_run(at / "run", variants={"base": {}, "v": {}, "int4": {}})]

    def run_part_of_a_file(self, at):
        run = a_run(at / "run")
        block = next(cell_folder(run, "v", "greedy").glob("*.parquet"))
        block.write_bytes(block.read_bytes()[:100])
        return [run]

    def run_all_samples(self, at):
        run = a_run(at / "run")
        shutil.rmtree(run / "samples")
        return [run]

    def runs_without_any(self, at):
        (at / "runs").mkdir()
        return [at / "runs"]

    def imported_run_an_item(self, at):
        from jobs.cli import app

        table = write_csv(at / "t.csv", rows(lambda r: r[0] != "v" or r[1] != "a" or r[4] != 17))
        assert CliRunner().invoke(app, ["import", str(table), "--out", str(at / "run")]).exit_code == 0
        return [at / "run"]


WAYS = [name for name in vars(Ways) if not name.startswith("_")]


@pytest.mark.slow
@pytest.mark.parametrize("lacking", WAYS)
def test_a_gate_never_passes_what_is_incomplete(tmp_path, lacking):
    """Baseline and variant agree on every answer, but something is missing: not 0, and it is said."""
    ran = run_analyze(*getattr(Ways(), lacking)(tmp_path), "--gate", "certified", out=tmp_path / "out")
    assert ran.code in {2, 3}
    assert ran.error or ran.verdicts["warning_codes"]


def complete(at):
    """One complete input of every kind."""
    write_samples(at / "base", RIGHT)
    write_samples(at / "v", RIGHT)
    return SimpleNamespace(
        csv=[write_csv(at / "t.csv", rows())], lm_eval=[at / "base", at / "v"], run=[a_run(at / "run")]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "lm_eval", "run"])
def test_a_gate_passes_what_is_complete(tmp_path, kind):
    """The same inputs with nothing missing are certified, with exit status 0."""
    ran = run_analyze(*getattr(complete(tmp_path), kind), "--gate", "certified", out=tmp_path / "out")
    assert (ran.code, {c["verdict"] for c in ran.verdicts["comparisons"]}) == (0, {"certified"})


def test_a_damaged_file_is_named_and_left_out(tmp_path):
    """A score whose bits have changed on the disk is no score: the file is named, its samples are missing."""
    scores = [i % 2 for i in range(60)]
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [scores], ("v", 0.0): [scores]})})
    first, _ = sorted(cell_folder(run, "v", "t").iterdir())
    column = next(
        part
        for part in (pq.read_metadata(first).row_group(0).column(i) for i in range(12))
        if part.path_in_schema.startswith("scores")
    )
    content = bytearray(first.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + column.total_compressed_size - 4] ^= 1
    first.write_bytes(content)
    ran = run_analyze(run, out=tmp_path / "out")
    assert "unreadable-files" in ran.verdicts["warning_codes"]
    assert first.name in " ".join(ran.text.split())
    assert ran.comparison("v")["items"] == 30


def test_mixed_software_is_said_and_refused_when_strict(tmp_path):
    """A run written by two versions is warned of for ever; --strict refuses it with what differs."""
    run = make_run(tmp_path / "run", {"t": MadeTask({("base", 0.0): [RIGHT], ("v", 0.0): [RIGHT]})})
    manifest = json.loads((run / "manifest.json").read_text())
    software = {name: {"versions": {"vllm": name}, "commit": None} for name in ("0.27", "0.28")}
    (run / "manifest.json").write_text(json.dumps({**manifest, "software": software}))
    ran = run_analyze(run, out=tmp_path / "out")
    assert "mixed-software" in ran.verdicts["warning_codes"]
    strict = run_analyze(run, "--strict", out=tmp_path / "strict")
    assert strict.code == 2
    assert "0.27" in strict.error + strict.text
