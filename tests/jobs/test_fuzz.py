"""Whatever a user feeds in ends in a sentence: no traceback, no "lldeg failed", and within seconds."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from standin.runs import MadeTask, make_run
from standin.strange import JSON, PLAIN, often, or_a_sentence, planted, trees

import lldeg
from jobs.analysis.policy import load_policy
from jobs.scores.read import read_scores
from orchestrator.config.load import load_config
from orchestrator.errors import UserError

pytestmark = pytest.mark.slow

KEYS = st.one_of(
    st.sampled_from(["name", "baseline", "model", "engine", "variants", "tasks", "sampling", "seeds", "kind",
                     "temperatures", "include_path", "items", "base_url", "header", "cluster", "analysis"]),
    st.text(max_size=5),
)  # fmt: skip
YAML = trees(st.one_of(PLAIN, st.dates()), KEYS)
GOOD = {
    "name": "s", "baseline": "a", "model": "m", "variants": {"a": {}, "b": {}}, "tasks": ["t"],
    "sampling": {"temperatures": [0.0], "seeds": 2}, "engine": {"kind": "vllm"}, "include_path": [],
}  # fmt: skip


@often
@given(st.dictionaries(st.sampled_from(list(GOOD)), YAML, max_size=3))
def test_any_tree_is_a_sweep_or_mistaken(tmp_path, tree):
    """Parts of a good configuration replaced by anything that YAML can say."""
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.dump({**GOOD, **tree}, allow_unicode=False), "utf-8")
    or_a_sentence(lambda: load_config(path))


@often
@given(st.binary(max_size=300))
def test_any_bytes_are_a_sweep_or_mistaken(tmp_path, content):
    """Not even YAML."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    or_a_sentence(lambda: load_config(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, and its manifest."""
    task = MadeTask({("base", 0.0): [[1, 0, 1]], ("v", 0.0): [[1, 1, 0]]})
    folder = make_run(tmp_path_factory.mktemp("fuzz") / "run", {"t": task})
    return folder, json.loads((folder / "manifest.json").read_text())


RULES = st.one_of(YAML, st.sampled_from(["certified", "not-degraded", "watched"]), st.fixed_dictionaries(
    {"require": st.one_of(PLAIN, st.just("certified"))},
    optional=dict.fromkeys(("alpha", "margin", "margin_own_unit", "min_items", "max_missing"), PLAIN),
))  # fmt: skip
NAMES = st.one_of(st.sampled_from(["t", "*", "[", "g*"]), KEYS)
POLICIES = st.fixed_dictionaries(
    {"tasks": st.one_of(YAML, st.dictionaries(NAMES, RULES))},
    optional={"alpha": PLAIN, "margin": PLAIN, "min_items": PLAIN, "max_missing": PLAIN,
              "variants": YAML, "overall": RULES},
)  # fmt: skip


@often
@given(st.one_of(POLICIES, YAML))
def test_any_tree_is_a_policy_or_mistaken(tmp_path, run, tree):
    """Whatever YAML can say, as far as the decision."""
    path, folder = tmp_path / "policy.yaml", run[0]
    (folder / "manifest.json").write_text(json.dumps(run[1]))
    path.write_text(yaml.dump(tree, allow_unicode=False), "utf-8")
    or_a_sentence(lambda: lldeg.analyze(folder, policy=path))


@often
@given(st.binary(max_size=300))
def test_any_bytes_are_a_policy_or_mistaken(tmp_path, content):
    """Not even YAML."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    or_a_sentence(lambda: load_policy(path))


STRANGE = {
    "a 13th month": "name: 2024-13-45",
    "aliases that explode": "a: &a [x]\n"
    + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "an anchor in itself": "name: &a [*a]",
    "deep": "name: " + "[" * 2000 + "]" * 2000,
    "a long number": "name: " + "9" * 5000,
    "binary": "name: !!binary aGVsbG8=",
    "a set": "name: !!set {a, b}",
    "half a character": 'name: "\\ud800"',
    "code": "name: !!python/object/apply:os.system [id]",
    "nought": 'name: "\\0"',
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_strange_yaml_is_a_sentence(tmp_path, text):
    """Each ended in a traceback, in "lldeg failed" or never."""
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        load_config(path)
    with pytest.raises(UserError):
        load_policy(path)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperatures": [float("nan")]},
        {"temperatures": [0.7, 0.70000000001]},
        {"seeds": 10**12},
        {"seeds": 10**30},
    ],
    ids=str,
)
def test_impossible_reruns_are_named(tmp_path, sampling):
    """Temperatures that are one in a row, and more seeds than anybody can wait for."""
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**GOOD, "sampling": sampling}))
    try:
        _, problems = load_config(path)
    except UserError as error:
        problems = [str(error)]
    assert any("sampling." in problem for problem in problems)


PARTS = ["variants", "tasks", "t", "v", "metrics", "reruns", "items", "metric", "group", "digest", "software",
         "versions", "skipped", "filters", "baseline"]  # fmt: skip


@often
@given(where=st.lists(st.sampled_from(PARTS), min_size=1, max_size=3), value=JSON)
def test_a_damaged_manifest_is_read_or_named(run, where, value):
    """Any part of it replaced by anything that JSON can say."""
    folder, manifest = run
    (folder / "manifest.json").write_text(json.dumps(planted(manifest, where, value)))
    or_a_sentence(lambda: read_scores([str(folder)]))


TABLES = st.text(alphabet='prompt_id,score\n"0123456789.eE-=\x00', max_size=200).map(
    lambda text: f"prompt_id,score\n{text}".encode()
)


@often
@given(st.one_of(st.binary(max_size=200), TABLES))
def test_any_score_table_is_read_or_named(tmp_path, content):
    """Bytes, and what looks like a table."""
    base, variant = tmp_path / "base.csv", tmp_path / "v.csv"
    base.write_text("prompt_id,score\n1,1\n2,0\n")
    variant.write_bytes(content)
    or_a_sentence(lambda: read_scores([str(base), str(variant)]))
