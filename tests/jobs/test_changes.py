"""What changed beside the scores: measured, tested, shown, and judged by a policy, apart from the verdict."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from analyze_runner import run_analyze
from inspect_maker import log, sample, write_json
from standin.runs import MadeTask, cell_folder, make_run

import lldeg
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import read_logs, write_run
from orchestrator.rundir.measurements import looping
from stats.change import RatioChange
from stats.scores import TaskScores

ITEMS = 300
RIGHT = [1, 1, 0] * (ITEMS // 3)
BASE = np.rint(np.random.default_rng(0).lognormal(5.0, 0.6, ITEMS)).astype(int)
NOISE = np.random.default_rng(1).integers(-9, 10, ITEMS)
ALIKE, LONGER = BASE + NOISE, np.rint(BASE * 1.3).astype(int) + NOISE
POLICY = {"tasks": {"t": "not-degraded"}, "measurements": {"output_tokens": {"within": 0.05}}}


def made(folder, variant, scores=RIGHT, **options):
    """A run whose variant answers with so many tokens."""
    tokens = {"base": BASE.tolist(), "v": list(map(int, variant))}
    task = MadeTask(
        {("base", 0.0): [RIGHT], ("v", 0.0): [scores]}, measured={"output_tokens": tokens}, **options
    )
    return make_run(folder / "run", {"t": task})


def changes(comparison):
    """The changes of a comparison of verdicts.json, by measurement."""
    return {change["measurement"]: change for change in comparison["changes"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("one two three four five six seven eight", 0.0),
        ("a b c d " * 26, 1 - 4 / 101),
        ("the same again, " * 2, 1 / 5),
        ("我不知道" * 26, 1 - 4 / 101),
    ],
)
def test_looping_is_the_share_of_repeated_runs_of_four_words(text, expected):
    """Counted by hand: of the runs of four words, those that occurred before; signs of Chinese are words."""
    assert looping(text) == pytest.approx(expected)


def test_longer_answers_change_no_verdict_on_quality(tmp_path):
    """30 % more tokens with the same scores: certified, and changed, with the numbers of the statistics."""
    ran = run_analyze(made(tmp_path, LONGER), out=tmp_path / "out")
    found = ran.comparison("v")
    assert (ran.code, found["verdict"]) == (0, "certified")
    change = changes(found)["output_tokens"]
    task = TaskScores("t", BASE.astype(float), LONGER.astype(float), bounds=None)
    assert change["change"] == pytest.approx(LONGER.sum() / BASE.sum() - 1)
    assert tuple(change["change_interval"]) == pytest.approx(RatioChange([task]).interval(0.05))
    assert (change["verdict"], change["unit"], change["items"]) == ("changed", "tokens", ITEMS)
    assert (change["baseline_mean"], change["variant_mean"]) == (BASE.mean(), LONGER.mean())
    table = (ran.out / "measurements.csv").read_text().splitlines()
    assert table[1].startswith("v,0.0,output_tokens,changed,")


def test_the_gate_on_changes_fails_what_is_longer(tmp_path):
    """Exit status 1 with a sentence that says why; a failure in junit.xml, beside the verdict that passed."""
    ran = run_analyze(made(tmp_path, LONGER), "--gate", "changed", out=tmp_path / "out")
    assert ran.code == 1
    assert "nothing is degraded, but something changed (output_tokens of v at temperature 0)" in ran.text
    junit = (ran.out / "junit.xml").read_text()
    assert 'name="output_tokens" time="0">\n      <failure message="+3' in junit
    assert 'name="all tasks" time="0" />' in junit


def test_the_gate_on_changes_passes_what_is_alike(tmp_path):
    """A difference within 5 % is shown as such."""
    ran = run_analyze(made(tmp_path, ALIKE), "--gate", "changed", out=tmp_path / "out")
    assert ran.code == 0
    assert changes(ran.comparison("v"))["output_tokens"]["verdict"] == "within"
    assert "within 5 %" in ran.text


def test_damage_comes_before_change(tmp_path):
    """A degraded variant that is longer, too, is said to be degraded."""
    ran = run_analyze(made(tmp_path, LONGER, [0] * ITEMS), "--gate", "changed", out=tmp_path / "out")
    assert ran.code == 1
    assert "something changed" not in ran.text


def test_the_direction_of_the_metric_does_not_turn_a_change(tmp_path):
    """Longer is +30 %, whether the task's scores are better when higher or when lower."""
    run = made(tmp_path, LONGER, metrics={"mistakes,none": False})
    change = changes(run_analyze(run, out=tmp_path / "out").comparison("v"))["output_tokens"]
    assert change["change"] == pytest.approx(LONGER.sum() / BASE.sum() - 1)


def test_a_run_without_the_columns_is_read_as_before(tmp_path):
    """Verdicts are the same, and nothing that is not known is said to have changed."""
    run = made(tmp_path, LONGER)
    for variant in ("base", "v"):
        for path in cell_folder(run, variant, "t").glob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            pq.write_table(table.drop_columns(["output_tokens", "prompt_tokens", "looping", "seconds"]), path)
    ran = run_analyze(run, "--gate", "changed", out=tmp_path / "out")
    assert (ran.code, ran.comparison("v")["verdict"]) == (0, "certified")
    assert changes(ran.comparison("v")).keys() == {"empty"}
    assert "beside the scores" not in ran.text


def test_likelihoods_have_no_lengths(tmp_path):
    """A multiple-choice task generates no text: only its prompts are measured."""
    run = made(tmp_path, LONGER, sampled=False)
    assert changes(run_analyze(run, out=tmp_path / "out").comparison("v")) == {}
    ran = run_analyze(run, "--gate", "changed", out=tmp_path / "out")
    said = "Exit status 3: nothing beside the scores was tested of v at temperature 0."
    assert (ran.code, said in " ".join(ran.text.split())) == (3, True)
    assert said in (ran.out / "junit.xml").read_text()


def test_truncation_that_differs_is_a_warning_with_the_drop_of_the_rest(tmp_path):
    """40 answers of the variant are cut, and wrong; the drop over the other 260 is counted by hand."""
    scores = [0] * 40 + RIGHT[40:]
    scores[100:110] = [0] * 10
    run = made(tmp_path, BASE, scores, cut={"base": 0, "v": 40})
    ran = run_analyze(run, out=tmp_path / "out")
    codes, texts = ran.verdicts["warning_codes"], ran.verdicts["warnings"]
    said = texts[codes.index("truncation-differs")]
    lost = sum(RIGHT[100:110])
    assert "cut 13.3% of its answers and 0.0% of the baseline's" in said
    assert f"Among the 260 items where none was cut the drop is {100 * lost / 260:.2f} points" in said
    assert changes(ran.comparison("v"))["cut"]["change"] == pytest.approx(40 / 300)


def test_truncation_alike_is_no_warning(tmp_path):
    """As many answers of either side are cut."""
    run = made(tmp_path, BASE, cut={"base": 40, "v": 40})
    assert "truncation-differs" not in run_analyze(run, out=tmp_path / "out").verdicts["warning_codes"]


def test_unequal_reruns_are_tested_without_swapping(tmp_path):
    """Two reruns against one: Student's t, on the means over reruns."""
    tokens = {"base": BASE.tolist(), "v": LONGER.tolist()}
    scores = {("base", 0.5): [RIGHT, RIGHT], ("v", 0.5): [RIGHT]}
    run = make_run(tmp_path / "run", {"t": MadeTask(scores, measured={"output_tokens": tokens})})
    (result,) = lldeg.analyze(run).comparisons
    change = next(one for one in result.changes if one.measurement == "output_tokens")
    assert (change.method, change.verdict) == ("student", "changed")


def test_logs_of_other_tools_are_measured_as_far_as_they_tell(tmp_path):
    """Tokens and ends of answers in an Inspect log; the run that is imported from it says the same."""
    paths = []
    for model, tokens in (("base", BASE), ("v", LONGER)):
        answers = [
            sample(i, "C" if right else "I", output={
                "completion": "4", "choices": [{"stop_reason": "max_tokens" if i < 9 else "stop"}],
                "usage": {"input_tokens": 7, "output_tokens": int(tokens[i])},
            })
            for i, right in enumerate(RIGHT)
        ]  # fmt: skip
        paths.append(str(write_json(tmp_path / model / "log.json", log(answers, model=model))))
    result = lldeg.analyze(paths)
    assert result.changed == (("v", "output_tokens"),)
    found = {one.measurement: one for one in result.comparisons[0].changes}
    assert found["cut"].baseline_mean == pytest.approx(9 / ITEMS)
    write_run(str(tmp_path / "run"), *read_logs(paths, InputQuery()))
    again = {one.measurement: one for one in lldeg.analyze(tmp_path / "run").comparisons[0].changes}
    assert {name: again[name] for name in found} == found
    assert again["looping"].change == 0.0


def test_strange_usage_in_a_log_is_no_mistake(tmp_path):
    """What is no number of tokens is unknown, where scores were read before, too."""
    odd = {"completion": "4", "choices": [{"stop_reason": 7}], "usage": {"output_tokens": "many"}}
    samples = [sample(i, "C", output=odd) for i in range(40)]
    paths = [
        str(write_json(tmp_path / name / "log.json", log(samples, model=name))) for name in ("base", "v")
    ]
    (result,) = lldeg.analyze(paths).comparisons
    assert result.changes == ()


@pytest.mark.parametrize(
    ("variant", "status", "code", "exit_status"),
    [(ALIKE, "pass", "within-tolerance", 0), (LONGER, "blocked", "beyond-tolerance", 1),
     (np.rint(BASE * 1.05) + NOISE, "insufficient", "not-within-tolerance", 3)],
)  # fmt: skip
def test_a_policy_limits_a_measurement(tmp_path, variant, status, code, exit_status):
    """Within 5 % is shown, is ruled out, or neither; the scores pass in any case."""
    result = lldeg.analyze(made(tmp_path, variant), policy=POLICY, out=str(tmp_path / "out"))
    assert result.exit_status() == exit_status
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    scores, lengths = decision["cases"]
    assert (scores["status"], scores["measurement"], scores["change"]) == ("pass", None, None)
    assert (lengths["status"], lengths["measurement"], lengths["within"]) == (status, "output_tokens", 0.05)
    assert [reason["code"] for reason in lengths["reasons"]] == [code]
    assert lengths["change"]["tolerance"] == 0.05
    assert "output tokens" in (tmp_path / "out" / "summary.md").read_text()


@pytest.mark.parametrize(
    ("policy", "code"),
    [({"measurements": {"cut": {"within": 0.01}}}, "not-measured"), ({"min_items": 301}, "too-few-items")],
)
def test_a_measurement_that_too_few_items_have_is_not_shown(policy, code, tmp_path):
    """A rule about one that nobody has, or fewer items than the policy asks for, is not fulfilled."""
    result = lldeg.analyze(made(tmp_path, ALIKE), policy=POLICY | policy)
    assert (result.exit_status(), result.decision.cases[-1].reasons[0].code) == (3, code)


def test_a_measurement_of_the_answers_that_are_left_is_not_shown(tmp_path):
    """A variant that failed on a tenth of the items was not measured there."""
    run = made(tmp_path, ALIKE, [None if item < ITEMS // 10 else right for item, right in enumerate(RIGHT)])
    case = lldeg.analyze(run, policy=POLICY | {"tasks": {"*": "watched"}}).decision.cases[-1]
    assert (case.status, case.missing_share) == ("insufficient", (0.0, 0.1))
    assert [reason.code for reason in case.reasons] == ["too-many-missing"]


@pytest.mark.parametrize("name", ["output_token", "seconds"])
def test_a_policy_names_what_can_be_tested(name, tmp_path):
    """A misspelt measurement, or one whose items wait for each other, is refused with a hint."""
    with pytest.raises(lldeg.UserError, match="there is no such measurement") as refused:
        lldeg.analyze(made(tmp_path, ALIKE), policy=POLICY | {"measurements": {name: {"within": 0.1}}})
    assert refused.value.codes == ("unknown-measurement",)


def test_only_calls_have_an_f1(tmp_path):
    """Of another measurement it is refused."""
    policy = POLICY | {"measurements": {"output_tokens": {"within": 0.1, "f1": 0.9}}}
    with pytest.raises(lldeg.UserError, match="only called has an f1") as refused:
        lldeg.analyze(made(tmp_path, ALIKE), policy=policy)
    assert refused.value.codes == ("setting-without-effect",)


def test_a_policy_may_watch_scores_and_limit_lengths(tmp_path):
    """Something can block a release then, so it is no empty policy."""
    policy = POLICY | {"tasks": {"*": "watched"}}
    assert lldeg.analyze(made(tmp_path, LONGER), policy=policy).exit_status() == 1


def test_a_policy_takes_no_gate(tmp_path):
    """It says itself what must not change."""
    (tmp_path / "p.yaml").write_text(json.dumps(POLICY))
    ran = run_analyze(
        made(tmp_path, ALIKE), "--policy", tmp_path / "p.yaml", "--gate", "changed", out=tmp_path / "out"
    )
    assert ran.code == 2
