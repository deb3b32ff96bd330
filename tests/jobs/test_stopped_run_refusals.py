"""What cannot be asked of a run that stopped early, and what other commands say of it."""

import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, make_run
from standin.sequential_runs import a_sweep, make_stopped_run
from typer.testing import CliRunner

import lldeg
from jobs.cli import app

TASKS = {"sums": 200}
VARIANTS = {"bad": {"worse": 0.3, "better": 0.05}, "same": {"worse": 0.02, "better": 0.02}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with several seeds, both variants of which were stopped."""
    folder = tmp_path_factory.mktemp("refusals") / "run"
    return make_stopped_run(folder, a_sweep(VARIANTS, TASKS, {0.5: 2}), margin=0.1).path


@pytest.mark.parametrize(
    ("arguments", "planned"),
    [
        (["--alpha", "0.01"], "0.05"),
        (["--margin", "0.02"], "0.1"),
        (["--range", "sums=0..2"], "scales"),
        (["--combine", "pooled"], "joint"),
        (["--adjust", "none"], "holm"),
        (["--adjust", "bh"], "holm"),
        (["--missing", "drop"], "worst"),
        (["--certify", "all"], "each"),
        (["--certificate", "proven"], "certificate default"),
        (["--cluster", "task"], "clusters"),
        (["--baseline", "same"], "base"),
        (["--metric", "sums=f1,none"], "acc,none"),
    ],
)
def test_another_choice_is_refused(tmp_path, run, arguments, planned):
    """In one sentence that says what the plan has, and with exit status 2."""
    ran = run_analyze(run, *arguments, out=tmp_path / "out")
    assert (ran.code, planned in ran.error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_all_contradictions_are_named_at_once(tmp_path, run):
    """Nobody has to find them one by one."""
    error = run_analyze(run, "--alpha", "0.01", "--combine", "pooled", out=tmp_path / "out").error
    assert "--alpha" in error
    assert "--combine" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--alpha", "0.05", "--margin", "0.1"],
        ["--combine", "joint", "--adjust", "holm"],
        ["--baseline", "base", "--missing", "worst", "--certify", "each"],
        ["--metric", "sums=acc,none", "--cluster", "none"],
    ],
)
def test_repeating_the_plan_is_fine(tmp_path, run, arguments):
    """The same verdicts as without."""
    plain = run_analyze(run, out=tmp_path / "a").verdicts
    assert run_analyze(run, *arguments, out=tmp_path / "b").verdicts == plain


def test_python_refuses_in_the_same_way(run):
    """As a UserError."""
    with pytest.raises(lldeg.UserError, match="--alpha"):
        lldeg.analyze(run, alpha=0.01)


def test_it_is_never_pooled_with_another_run(tmp_path, run):
    """Other samples of the same variants would be a second plan."""
    other = make_run(tmp_path / "other", {"extra": MadeTask({(v, 0.5): [[1, 0]] for v in ("base", "bad")})})
    ran = run_analyze(run, other, out=tmp_path / "out")
    assert (ran.code, "alone" in ran.error) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["flips", "subset"])
def test_other_commands_say_what_was_stopped(tmp_path, run, command):
    """They work on the answers that are there, and name the variants that were stopped."""
    done = CliRunner().invoke(app, [command, str(run), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "stopped variants early" in said
    assert "bad at temperature 0.5" in said
