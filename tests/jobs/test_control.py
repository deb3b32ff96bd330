"""A control that is found to differ: said before everything else."""

import pytest
from analyze_runner import run_analyze
from standin.runs import MadeTask, make_run

RIGHT = [1] * 100 + [0] * 100
OTHER = [0] * 20 + [1] * 100 + [0] * 80
"""As often right, on other items."""


NAMED = {"variants": {"base": {}, "control": {"control": True}, "v": {}}}


def made(folder, answers, *, reruns=3, **sweep):
    """A run with a control, and a variant that answers as the baseline does."""
    answers = {"base": RIGHT, "control": answers, "v": RIGHT}
    task = MadeTask({(name, 0.7): [scores] * reruns for name, scores in answers.items()})
    return make_run(folder / "run", {"t": task}, **sweep)


@pytest.mark.parametrize(
    ("control", "found"),
    [
        ([0] * 10 + RIGHT[10:], "significantly worse"),
        ([*RIGHT[:-10], *[1] * 10], "significantly better"),
        (OTHER, "by more than reruns"),
    ],
)
def test_a_control_that_differs_is_said_first_and_refused_by_strict(tmp_path, control, found):
    """Worse, better, or as good with other answers; the line says it, too."""
    run = made(tmp_path, control, **NAMED)
    ran = run_analyze(run, "--format", "line", out=tmp_path / "out")
    assert ran.verdicts["warning_codes"][0] == "control-differs"
    assert found in ran.verdicts["warnings"][0]
    assert ran.text.startswith("lldeg control differs, ")
    strict = run_analyze(run, "--strict", out=tmp_path / "strict")
    assert (strict.code, found in strict.error) == (2, True)


def test_what_is_within_its_noise_is_no_finding(tmp_path):
    """An item better, one worse; one run each tells nothing of reruns; no control is named."""
    close = [0, *RIGHT[1:-1], 1]
    for number, (answers, reruns, named) in enumerate(
        [(close, 2, True), (OTHER, 1, True), (OTHER, 3, False)]
    ):
        sweep = NAMED if named else {}
        run = made(tmp_path / str(number), answers, reruns=reruns, **sweep)
        ran = run_analyze(run, "--strict", out=tmp_path / f"{number}-out")
        assert "control-differs" not in ran.verdicts["warning_codes"]


def test_a_control_can_be_named(tmp_path):
    """Of logs, or of a run whose sweep names none; a name that is no variant is refused."""
    run = made(tmp_path, OTHER)
    ran = run_analyze(run, "--control", "control", out=tmp_path / "out")
    assert ran.verdicts["warning_codes"][0] == "control-differs"
    wrong = run_analyze(run, "--control", "base", out=tmp_path / "wrong")
    assert (wrong.code, "--control base" in wrong.error) == (2, True)
