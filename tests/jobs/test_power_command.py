"""`lldeg power`: what is printed, and what is refused."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

import jobs.commands.power
from orchestrator.errors import UserError
from stats.planning import Design
from stats.sequential.boundaries import Stopping
from stats.sequential.paths import expected_course


@pytest.fixture
def run(monkeypatch):
    """Runs the command; returns what it printed, or raises the user's error."""
    import typer

    monkeypatch.setattr(jobs.commands.power, "terminal", lambda: Console(width=120))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(jobs.commands.power.power)

    def invoke(*arguments):
        done = CliRunner().invoke(app, list(arguments))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return invoke


def test_published_numbers_come_out(run):
    """A flip rate of 9 % needs 61,824 items for 0.3 points."""
    assert "(61,824 by the large-sample formula)" in run(
        "--items", "5000", "--flip-rate", "0.09", "--drop", "0.003"
    )


def test_cost_counts_both_models_and_all_reruns(run):
    """1,000 items, 5 reruns, 2 models: 10,000 samples; at 10 a second 0.28 hours."""
    line = next(
        text
        for text in run("--items", "1000", "--flip-rate", "0.1", "--throughput", "10").splitlines()
        if text.split()[:1] == ["5"]
    )
    assert line.split()[-2:] == ["10,000", "0.28"]


def test_tasks_are_judged_together_and_alone(run):
    """Damage on all tasks and in one task are told apart, each by all four tests."""
    shown = run("--items", "6000", "--flip-rate", "0.1", "--drop", "0.005", "--tasks", "6")
    assert "spread over all tasks: joint" in shown
    assert "entire drop in one task: joint" in shown


def test_the_smallest_drop_is_that_of_the_test_that_decides(run):
    """Over tasks by the chosen combination, of one task by all of them alike."""
    sizes = "--items", "6000", "--flip-rate", "0.1"
    for combine in ("joint", "max-drop"):
        drop = Design(6_000, 0.1, tasks=(1 / 6,) * 6, combine=combine).detectable_drop()
        shown = run(*sizes, "--tasks", "6", "--combine", combine)
        assert f"by the {combine} test over 6 tasks: {100 * drop:.2f} points." in shown
    assert run(*sizes) == run(*sizes, "--combine", "max-drop")


def test_a_drop_too_large_for_one_task_is_not_shown_there(run):
    """Ten tasks cannot hide 2 points of damage in one where only 10 % of answers flip."""
    shown = run("--items", "6000", "--flip-rate", "0.1", "--drop", "0.02", "--tasks", "10")
    assert "entire drop in one task" not in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flip-rate", "0"], "flip rate must be between 0 and 1"),
        (["--flip-rate", "0.1", "--drop", "0.2"], "allows at most 0.1"),
        (["--flip-rate", "0.1", "--drop", "-0.2"], "must be positive"),
        (["--flip-rate", "0.1", "--noise-rate", "0.3"], "noise rate must be between"),
        (["--flip-rate", "0.1", "--tasks", "0"], "--tasks must be between"),
        (["--flip-rate", "0.1", "--throughput", "0"], "--throughput"),
        (["--flip-rate", "0.1", "--looks", "5", "--margin", "2"], "--margin must be between"),
    ],
)
def test_wrong_numbers_are_refused_by_name(run, arguments, said):
    """Each mistake is one sentence that names the number."""
    with pytest.raises(UserError, match=said):
        run("--items", "100", *arguments)


def test_stopping_early_has_its_power_and_its_share_of_the_samples(run):
    """With and without the drop, as the statistics expect them."""
    shown = run(
        "--items", "5000", "--flip-rate", "0.09", "--drop", "0.01", "--looks", "5", "--until", "decided"
    )
    lines = [line for line in shown.splitlines() if "expected" in line]
    for line, drop in zip(lines, (0.0, 0.01), strict=True):
        power, certificate, share = expected_course(Design(5_000, 0.09), drop, Stopping(5, "decided"), 0.01)
        numbers = [f"{power:.3f}", f"{certificate:.3f}", f"{100 * share:.0f} %"]
        assert all(number in line for number in numbers)


@pytest.mark.parametrize("looks", ["1", "101"])
def test_as_many_looks_as_a_sweep_may_have(lldeg, looks):
    """A submit would refuse one look and more than 100."""
    assert lldeg("power", "--items", "100", "--flip-rate", "0.1", "--looks", looks).status == 2
