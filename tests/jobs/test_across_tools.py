"""`lldeg analyze` on results of different tools: what pairs, and what is said about it."""

import json
import random

import pytest
from analyze_runner import run_analyze
from inspect_maker import log, sample, write_eval, write_json

from jobs.formats.columns import parse_columns
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores
from orchestrator.errors import UserError

ITEMS = 60
COLUMNS = ("--columns", "item=id,score=acc,prompt=ask")


def inspect_log(path, scores, **more):
    """A log of inspect_ai; ids are numbers, prompts "question ID"."""
    return write_eval(path, log([sample(i, "C" if s else "I") for i, s in scores.items()], **more))


def lines(path, scores, *, name=str, ask="question {}"):
    """JSON Lines with ids of another kind and a metric of another name."""
    rows = [{"id": name(i), "acc": float(s), "ask": ask.format(i)} for i, s in scores.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def scores():
    """Right or wrong, by item, of a baseline and of a variant."""
    rng = random.Random(5)
    return tuple({i: rng.random() < chance for i in range(1, ITEMS + 1)} for chance in (0.9, 0.5))


def drop(base, variant):
    """Mean difference over the items that both have."""
    common = base.keys() & variant.keys()
    return sum(base[i] - variant[i] for i in common) / len(common)


def test_items_pair_by_id_across_tools(tmp_path, scores):
    """7 and "7" are one item; task and metric need not have one name, and that is said."""
    paths = inspect_log(tmp_path / "base.eval", scores[0]), lines(tmp_path / "int4.jsonl", scores[1])
    ran = run_analyze(*paths, *COLUMNS, out=tmp_path / "out")
    found = ran.comparison("int4.jsonl")
    assert (found["items"], found["paired_share"], ran.verdicts["pair_by"]) == (ITEMS, 1.0, "id")
    assert found["drop"] == pytest.approx(drop(*scores), abs=1e-12)
    assert set(ran.verdicts["warning_codes"]) == {"other-names", "paired"}


@pytest.mark.parametrize(
    ("metric", "code", "said"),
    [("error_rate", 2, "higher is better for match, and lower for error_rate"), ("graded", 3, "")],
)
def test_metrics_of_other_names_must_agree_on_the_direction(tmp_path, scores, metric, code, said):
    """What one tool calls right is no error rate of another, and a certificate needs all directions."""
    variant = lines(tmp_path / "int4.jsonl", scores[0])
    variant.write_text(variant.read_text().replace('"acc"', f'"{metric}"'))
    paths = inspect_log(tmp_path / "base.eval", scores[0]), variant
    named = ("--columns", f"item=id,score={metric}", "--margin", "0.1", "--gate", "certified")
    ran = run_analyze(*paths, *named, out=tmp_path / "out")
    assert (ran.code, said in ran.error) == (code, True)
    assert code == 2 or "direction-unknown" in ran.verdicts["warning_codes"]


def test_items_pair_by_prompt_where_ids_differ(tmp_path, scores):
    """Ids have nothing in common, prompts differ only by space, and the order of the rows does not matter."""
    other = dict(reversed(scores[1].items()))
    variant = lines(tmp_path / "int4.jsonl", other, name=lambda i: f"gsm-{i:04}", ask=" question  {}\n")
    paths = inspect_log(tmp_path / "base.eval", scores[0]), variant
    ran = run_analyze(*paths, *COLUMNS, "--pair-by", "prompt", out=tmp_path / "out")
    found = ran.comparison("int4.jsonl")
    assert (found["items"], found["paired_share"], ran.verdicts["pair_by"]) == (ITEMS, 1.0, "prompt")
    assert found["drop"] == pytest.approx(drop(*scores), abs=1e-12)


def test_prompts_of_messages_pair_with_plain_prompts(tmp_path, scores):
    """Roles and the system's message are no part of the question."""
    content = log([sample(i, "C" if s else "I") for i, s in scores[0].items()])
    for one in content["samples"]:
        one["input"] = [{"role": "user", "content": [{"type": "text", "text": one["input"]}]}]
    rows = lines(tmp_path / "v.jsonl", scores[1], name="x{}".format)
    text = [json.loads(line) for line in rows.read_text().splitlines()]
    for row in text:
        row["ask"] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": row["ask"]}]
    rows.write_text("".join(json.dumps(row) + "\n" for row in text))
    paths = write_json(tmp_path / "base.json", content), rows
    ran = run_analyze(*paths, *COLUMNS, "--pair-by", "prompt", out=tmp_path / "out")
    assert ran.comparison("v.jsonl")["items"] == ITEMS


def test_a_low_share_is_a_warning(tmp_path, scores):
    """Twelve of sixty items are missing: the share is in the file, the warning has a code and numbers."""
    fewer = {i: s for i, s in scores[1].items() if i > 12}
    paths = inspect_log(tmp_path / "base.eval", scores[0]), lines(tmp_path / "int4.jsonl", fewer)
    ran = run_analyze(*paths, *COLUMNS, out=tmp_path / "out")
    found = ran.comparison("int4.jsonl")
    assert (found["items"], found["paired_share"]) == (48, pytest.approx(0.8))
    assert "low-paired-share" in ran.verdicts["warning_codes"]
    assert "48 of 60" in ran.text


def test_nothing_pairs_is_refused(tmp_path, scores):
    """Exit status 2, with the option that could help."""
    variant = lines(tmp_path / "int4.jsonl", scores[1], name="gsm-{}".format)
    ran = run_analyze(inspect_log(tmp_path / "base.eval", scores[0]), variant, *COLUMNS, out=tmp_path / "out")
    assert ran.code == 2
    assert "--pair-by prompt" in ran.error
    assert not ran.out.exists()


def test_items_of_one_tool_may_pair_by_prompt(tmp_path, scores):
    """Two logs whose ids were shuffled."""
    order = list(scores[1])
    random.Random(1).shuffle(order)
    renamed = [{**sample(i, "C" if scores[1][i] else "I"), "id": place} for place, i in enumerate(order)]
    paths = [
        inspect_log(tmp_path / "a.eval", scores[0], model="a"),
        write_eval(tmp_path / "b.eval", log(renamed, model="b")),
    ]
    found = run_analyze(*paths, "--pair-by", "prompt", out=tmp_path / "out").comparison("b")
    assert found["drop"] == pytest.approx(drop(*scores), abs=1e-12)


def test_two_items_of_one_prompt_stay_two(tmp_path):
    """The second one is numbered, and pairs with the second one of the other model."""
    samples = [{**sample(i, "C"), "input": "same"} for i in (1, 2)]
    paths = [str(write_json(tmp_path / f"{m}.json", log(samples, model=m))) for m in "ab"]
    (table,) = read_scores(paths, InputQuery(pair_by="prompt")).tasks
    assert [column.answers.tolist() for column in table.columns.values()] == [[1, 1], [1, 1]]


def test_a_list_names_tasks_that_tools_call_differently(tmp_path, scores):
    """Two tasks each, under names of their own: the list says which is which."""
    for task in ("s", "t"):
        inspect_log(tmp_path / f"{task}.eval", scores[0], task=f"inspect_evals/{task}")
        lines(tmp_path / f"{task}.jsonl", scores[1])
    listing = tmp_path / "list.json"
    listing.write_text(
        json.dumps({"base": {t: f"{t}.eval" for t in "st"}, "int4": {t: f"{t}.jsonl" for t in "st"}})
    )
    found = run_analyze(listing, *COLUMNS, out=tmp_path / "out").comparison("int4")
    assert [(task["task"], task["items"]) for task in found["tasks"]] == [("s", ITEMS), ("t", ITEMS)]


def test_the_metric_of_each_tool_may_be_chosen(tmp_path, scores):
    """--metric names it for the tool that has it; the other one keeps its own."""
    content = log([sample(i, "I") for i in scores[0]])
    for one in content["samples"]:
        one["scores"]["judge"] = {"value": "C" if scores[0][one["id"]] else "I"}
    paths = write_json(tmp_path / "base.json", content), lines(tmp_path / "int4.jsonl", scores[1])
    ran = run_analyze(*paths, *COLUMNS, "--metric", "*=judge", out=tmp_path / "out")
    assert ran.comparison("int4.jsonl")["drop"] == pytest.approx(drop(*scores), abs=1e-12)


def test_results_of_different_tools_are_imported_together(tmp_path, scores):
    """Items of one identifier are one item of the run."""
    paths = inspect_log(tmp_path / "base.eval", scores[0]), lines(tmp_path / "int4.jsonl", scores[1])
    models, tasks = read_logs([str(path) for path in paths], InputQuery(columns=parse_columns([COLUMNS[1]])))
    assert (len(models), [imported(task)[1].num_rows for task in tasks]) == (2, [ITEMS])


def test_reruns_of_different_tools_are_refused(tmp_path, scores):
    """A model's reruns come from one tool."""
    paths = inspect_log(tmp_path / "base.eval", scores[0]), lines(tmp_path / "int4.jsonl", scores[1])
    with pytest.raises(UserError, match="output of one tool"):
        read_reruns([str(path) for path in paths], InputQuery(columns=parse_columns([COLUMNS[1]])))


def test_prompts_that_are_not_there_cannot_pair(tmp_path, scores):
    """It names the input without prompts."""
    paths = [str(lines(tmp_path / f"{m}.jsonl", scores[0])) for m in "ab"]
    named = parse_columns(["item=id,score=acc"])
    with pytest.raises(UserError, match=r"a\.jsonl has no prompt of item 1"):
        read_scores(paths, InputQuery(columns=named, pair_by="prompt"))


def test_items_that_share_a_prompt_are_counted(tmp_path, scores):
    """A prompt that is the same everywhere pairs all items by their order, which is said."""
    paths = [
        lines(tmp_path / f"{name}.jsonl", s, ask="Answer.") for name, s in zip("ab", scores, strict=True)
    ]
    ran = run_analyze(*paths, *COLUMNS, "--pair-by", "prompt", out=tmp_path / "out")
    assert set(ran.verdicts["warning_codes"]) == {"repeated-prompts", "paired"}
    assert f"{ITEMS - 1} of {ITEMS} items repeat the prompt" in " ".join(ran.verdicts["warnings"])


def test_nothing_pairs_within_one_tool_names_the_option(tmp_path, scores):
    """Two files of one kind whose items are numbered differently."""
    paths = [
        lines(tmp_path / f"{mark}.jsonl", found, name=(mark + "{}").format)
        for mark, found in zip("ab", scores, strict=True)
    ]
    ran = run_analyze(*paths, *COLUMNS, out=tmp_path / "out")
    assert (ran.code, "--pair-by prompt" in ran.error) == (2, True)


@pytest.mark.parametrize("blank", ["", " \n", "[]", '[{"role": "system", "content": "Be brief."}]'])
def test_a_prompt_without_text_pairs_nothing(tmp_path, scores, blank):
    """Items whose prompt is blank, or a system message alone, would all be the same question."""
    asked = blank.replace("{", "{{").replace("}", "}}")
    paths = [str(lines(tmp_path / f"{m}.jsonl", scores[0], ask=asked)) for m in "ab"]
    with pytest.raises(UserError, match="has no prompt of item 1"):
        read_scores(paths, InputQuery(columns=parse_columns([COLUMNS[1]]), pair_by="prompt"))
