"""The file of items worth running: read back, refused where it is wrong, and guarded against its own runs."""

import pytest

from orchestrator.errors import UserError
from orchestrator.sweep.item_subset import ChosenBy, Subset, read_subset, refuse_reused_in

ORIGIN = ChosenBy(model="models/base", revision="abc", runs=((0.3, 0), (0.3, 1)))


def test_a_written_file_is_read_back(tmp_path):
    """Items and the runs that chose them survive."""
    subset = Subset(items={"sums": (1, 4), "words": (0,)}, chosen_by=ORIGIN)
    (tmp_path / "subset.json").write_text(subset.text())
    assert read_subset(tmp_path / "subset.json") == subset


def test_a_file_of_lm_evals_own_is_read(tmp_path):
    """What `lm_eval --samples` takes needs no origin."""
    (tmp_path / "samples.json").write_text('{"sums": [3, 1]}')
    assert read_subset(tmp_path / "samples.json") == Subset(items={"sums": (1, 3)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "must map tasks"),
        ("{", "is not valid JSON"),
        ("{}", "names no task"),
        ('{"sums": []}', "'sums' must have a non-empty list"),
        ('{"sums": [1, 1]}', "'sums' must have a non-empty list of distinct"),
        ('{"sums": [-1]}', "'sums' must have a non-empty list"),
        ('{"sums": ["1"]}', "'sums' must have a non-empty list"),
        ('{"sums": [true]}', "'sums' must have a non-empty list"),
        ('{"sums": [1], "chosen_by": {"model": "m"}}', "'chosen_by' is damaged"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, said):
    """Each mistake is one sentence with the file's name."""
    path = tmp_path / "subset.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        read_subset(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    """The sentence says what writes it."""
    with pytest.raises(UserError, match="lldeg subset"):
        read_subset(tmp_path / "none.json")


def test_the_runs_that_chose_are_refused():
    """The same weights, temperature and seed, whatever the folder is called."""
    with pytest.raises(UserError, match=r"seed 1 at temperature 0\.3 chose this subset"):
        ORIGIN.refuse_reused("elsewhere/base", "abc", [(0.3, 1), (0.3, 2)], "subset.json")


@pytest.mark.parametrize(
    ("revision", "runs"),
    [("abc", [(0.3, 2)]), ("abc", [(0.7, 0)]), ("abc", [(0.0, None)]), ("other", [(0.3, 0)])],
)
def test_other_runs_are_welcome(revision, runs):
    """Fresh seeds, another temperature, another model."""
    ORIGIN.refuse_reused("models/base", revision, runs, "subset.json")


def _manifest(runs, *, subset=None):
    entry = {"model": "models/base", "revision": "abc"}
    manifest = {"variants": {"base": entry, "cheap": {"model": "x"}}, "tasks": {"sums": {"reruns": runs}}}
    return manifest | ({"subset": {"chosen_by": ORIGIN.model_dump(mode="json")}} if subset else {})


def test_an_analysis_with_the_choosing_seeds_is_refused():
    """The run of the subset asked the seeds again that chose it."""
    with pytest.raises(UserError, match=r"seed 0 at temperature 0\.3 chose this subset"):
        refuse_reused_in([_manifest([[0.3, 0], [0.3, 5]], subset=True)], "base")


def test_an_analysis_together_with_the_choosing_run_is_refused():
    """Pooling the subset's run with the run it was chosen from brings the choosing runs in."""
    with pytest.raises(UserError, match="chose this subset"):
        refuse_reused_in([_manifest([[0.3, 0], [0.3, 1]]), _manifest([[0.3, 2]], subset=True)], "base")


def test_an_analysis_of_fresh_runs_is_welcome():
    """Fresh seeds; or the choosing temperature left out of the analysis."""
    refuse_reused_in([_manifest([[0.3, 2], [0.0, None]], subset=True)], "base")
    refuse_reused_in([_manifest([[0.3, 0], [0.0, None]], subset=True)], "base", temperatures={0.0})


def test_runs_without_a_subset_are_welcome():
    """No subset, no refusal."""
    refuse_reused_in([_manifest([[0.3, 0]])], "base")
