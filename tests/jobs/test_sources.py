"""The registry of input formats, and what is common to all formats of other tools."""

import json

import pytest
from inspect_maker import log, sample, write_json

from jobs.formats.registry import FORMATS, formats
from jobs.formats.samples import InputFormat
from jobs.scores.read import read_scores
from orchestrator.errors import UserError


def test_every_registered_format_is_a_source():
    """A folder of the registry has a reader, and each says in its own words what it is."""
    found = formats()
    assert all(isinstance(source, InputFormat) for source in found)
    assert len({source.described for source in found}) == len(FORMATS)


def test_a_list_names_the_models_of_any_format(tmp_path):
    """{model: path} works for the logs of another tool as it does for lm-eval, relative to the list."""
    for name in ("one", "two"):
        write_json(tmp_path / "logs" / f"{name}.json", log([sample(1, "C")]))
    listing = tmp_path / "list.json"
    listing.write_text(json.dumps({"fp16": "logs/one.json", "int4": "logs/two.json"}))
    assert read_scores([str(listing)]).models == ("fp16", "int4")


def test_a_temperature_that_one_table_lacks_is_unknown_in_both(tmp_path):
    """Models pair although only one of their tables states the temperature."""
    (tmp_path / "a.csv").write_text("prompt_id,temperature,score\n1,0.7,1\n2,0.7,0\n")
    (tmp_path / "b.csv").write_text("prompt_id,score\n1,1\n2,1\n")
    (table,) = read_scores([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]).tasks
    assert list(table.columns) == [("a", None), ("b", None)]


def test_models_without_a_common_metric_are_refused(tmp_path):
    """Two scorers of two models measure two things."""
    for name in ("one", "two"):
        content = log([sample(1, "C", scorer=name)], model=name)
        write_json(tmp_path / f"{name}.json", content)
    with pytest.raises(UserError, match="no metric of task arc in common"):
        read_scores([str(tmp_path / "one.json"), str(tmp_path / "two.json")])


def test_the_same_input_twice_is_refused(tmp_path):
    """A log compared with itself decides nothing."""
    path = str(write_json(tmp_path / "a.json", log([sample(1, "C")])))
    with pytest.raises(UserError, match="given twice"):
        read_scores([path, path])


def test_logs_with_other_settings_are_not_reruns(tmp_path):
    """Two logs of one model in a folder at two temperatures are named, and so is what differs."""
    for name, temperature in (("a", 0.0), ("b", 0.7)):
        write_json(tmp_path / f"{name}.json", log([sample(1, "C")], temperature=temperature))
    with pytest.raises(UserError, match=r"a\.json and .*b\.json are not reruns of each other.*temperature"):
        read_scores([str(tmp_path)])


def test_a_folder_in_no_known_format_names_what_is_read(tmp_path):
    """The error lists the formats of the registry."""
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="HELM") as refused:
        read_scores([str(tmp_path)])
    assert all(source.accepted in str(refused.value) for source in formats())
