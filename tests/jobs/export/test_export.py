"""`lldeg export`: other tools read the files, and reading them back gives the same verdicts.

The schemas of Every Eval Ever beside this file are MIT-licensed (LICENSE.txt).
"""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from lm_eval import utils
from standin.faults import FailingDisk
from standin.runs import MadeTask, make_run

import lldeg as api

SAME, WORSE = [1] * 60 + [0] * 40, [1] * 30 + [0] * 70
NUMBERS = ("items", "worse", "better", "drop", "p_pooled", "baseline_score", "variant_score")


def validator(name):
    """One of the schemas."""
    return Draft202012Validator(json.loads((Path(__file__).parent / f"{name}.schema.json").read_text()))


@pytest.fixture
def run(tmp_path):
    """Two tasks, one of them with two reruns at temperature 0.5; two samples failed."""
    tasks = {
        "a": MadeTask({("base", 0.0): [SAME], ("v", 0.0): [[None, None, *WORSE[2:]]]}, group="g"),
        "b": MadeTask({("base", 0.5): [SAME, WORSE], ("v", 0.5): [WORSE, SAME]}),
    }
    return make_run(tmp_path / "run", tasks, baseline="base")


@pytest.fixture
def exported(lldeg, run, tmp_path):
    """Exports the run and returns the folder."""

    def to(target):
        ended = lldeg("export", run, "--to", target, "--out", tmp_path / target)
        assert ended.status == 0, ended.err
        return tmp_path / target

    return to


def numbers_of(result, temperature):
    """The numbers of the comparison at a temperature."""
    (found,) = [one.comparison for one in result.comparisons if one.temperature == temperature]
    return {name: getattr(found, name) for name in NUMBERS}


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_lm_eval_files_give_the_same_numbers(run, exported, temperature):
    """Read back folder by folder, reruns included."""
    folder = exported("lm-eval")
    sides = [folder / name / f"temperature={temperature:g}" for name in ("base", "v")]
    again = numbers_of(api.analyze(sides), temperature)
    assert again == pytest.approx(numbers_of(api.analyze(run), temperature))


def test_lm_evals_own_functions_read_the_files(exported):
    """Its table of results, and its names of tasks by file."""
    folder = exported("lm-eval") / "base" / "temperature=0.5"
    names = [str(path) for path in folder.iterdir()]
    latest = utils.get_latest_filename(utils.get_results_filenames(names))
    table = utils.make_table(json.loads(Path(latest).read_text()))
    assert "|b" in table
    assert "0.3" in table
    samples = utils.get_sample_results_filenames(names)
    assert {utils.get_file_task_name(Path(name).name) for name in samples} == {"b"}


def test_every_eval_ever_files_fit_their_schema(exported):
    """Every aggregate and every sample; the aggregate names its sample file."""
    folder = exported("every-eval-ever")
    aggregates = list(folder.rglob("*[0-9a-f].json"))
    assert len(aggregates) == 6
    for path in aggregates:
        content = json.loads(path.read_text())
        validator("eval").validate(content)
        rows = (folder / content["detailed_evaluation_results"]["file_path"]).read_text().splitlines()
        assert len(rows) == content["detailed_evaluation_results"]["total_rows"]
        for row in rows:
            validator("instance_level_eval").validate(json.loads(row))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_every_eval_ever_files_give_the_same_numbers(run, exported, temperature):
    """Models are named by run and variant; the two failed samples are left out, and nothing else."""
    folder = exported("every-eval-ever")
    again = api.analyze(folder, baseline="run/base")
    assert numbers_of(again, temperature) == pytest.approx(numbers_of(api.analyze(run), temperature))


def test_failed_samples_are_no_zeros(exported):
    """98 of 100 samples of the variant are exported, and the aggregate counts the other two."""
    folder = exported("every-eval-ever")
    contents = [json.loads(path.read_text()) for path in folder.rglob("*[0-9a-f].json")]
    found = [c["detailed_evaluation_results"] for c in contents if c["model_info"]["name"] == "v"]
    assert sorted(one["total_rows"] for one in found) == [98, 100, 100]
    assert sorted(one["additional_details"]["failed_samples"] for one in found) == ["0", "0", "2"]


def test_names_cannot_leave_the_folder(lldeg, tmp_path):
    """A variant called ../../x stays inside."""
    task = MadeTask({("base", 0.0): [SAME], ("../../x", 0.0): [SAME]})
    run = make_run(tmp_path / "run", {"a": task}, baseline="base")
    for target in ("lm-eval", "every-eval-ever"):
        assert lldeg("export", run, "--to", target, "--out", tmp_path / "out" / target).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_a_folder_with_files_is_refused(lldeg, run, tmp_path):
    """What is there would be taken for part of the run."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    ended = lldeg("export", run, "--to", "lm-eval", "--out", tmp_path / "full")
    assert (ended.status, [path.name for path in (tmp_path / "full").iterdir()]) == (2, ["x"])


@pytest.mark.parametrize("target", ["lm-eval", "every-eval-ever"])
def test_an_interrupted_export_does_not_block_its_folder(lldeg, run, tmp_path, target):
    """Exported again, the folder holds what one export writes, and no more."""
    out = tmp_path / "exported"
    with FailingDisk(tmp_path, 20, for_good=True):
        assert lldeg("export", run, "--to", target, "--out", out).status == 2
    assert list(out.rglob("*.jsonl"))
    ended = lldeg("export", run, "--to", target, "--out", out)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert (ended.status, ended.out.split()[0]) == (0, str(len(files)))
