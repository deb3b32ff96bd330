"""`lldeg` on logs that the installed inspect_ai writes, with the numbers as inspect_ai itself reads them.

inspect_ai needs other versions of packages than those that are pinned here, so it is not among the test
dependencies; where it cannot be imported, the tests are skipped.
"""

import random
import zipfile

import pytest
from analyze_runner import run_analyze

from jobs.formats.samples import PLAIN, InputQuery
from jobs.formats.write_run import imported, read_logs
from jobs.scores.read import read_reruns, read_scores

inspect_ai = pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.ray  # inspect_ai listens on a socket of its own

ITEMS, EPOCHS = 8, 3
BROKEN = "q3"
"""A sample on which the baseline's call fails."""


def mock_model(name, chance):
    """The package's mock model with random answers; with counts of tokens, or it would fetch a tokenizer."""
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    rng = random.Random(name)

    def answer(messages, tools, choice, config):
        if name == "base" and BROKEN in messages[-1].text:
            raise RuntimeError("no answer")
        output = ModelOutput.from_content(name, "4" if rng.random() < chance else "5")
        output.usage = ModelUsage(input_tokens=7, output_tokens=1, total_tokens=8)
        return output

    return get_model(f"mockllm/{name}", custom_outputs=answer, memoize=False)


def graded():
    """A scorer with two values."""
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(metrics={"half": [mean()], "length": [mean()]}, name="graded")
    def build():
        async def score(state, target):
            is_right = state.output.completion == target.text
            return Score(value={"half": 0.5 * is_right, "length": 1}, answer=state.output.completion)

        return score

    return build()


def evaluate(folder, log_format, scorers=None):
    """Two models on one task; the logs as inspect_ai reads them, by model."""
    from inspect_ai.dataset import Sample
    from inspect_ai.log import read_eval_log
    from inspect_ai.scorer import match

    dataset = [
        Sample(input=f"q{i}: what is 2 + 2?", target="4", id=f"q{i}", metadata={"subject": f"s{i % 2}"})
        for i in range(ITEMS)
    ]
    logs = inspect_ai.eval(
        inspect_ai.Task(dataset=dataset, scorer=scorers or match(), name="sums"),
        model=[mock_model("base", 0.9), mock_model("int4", 0.4)],
        epochs=EPOCHS,
        log_dir=str(folder),
        log_format=log_format,
        display="none",
        temperature=0.7,
        fail_on_error=False,
    )
    return {log.eval.model: read_eval_log(log.location) for log in logs}


def means(log, scorer="match"):
    """Mean score of each item that has one."""
    found = {}
    for sample in log.samples:
        if not sample.error:
            found.setdefault(sample.id, []).append(float(sample.scores[scorer].value == "C"))
    return {item: sum(scores) / len(scores) for item, scores in found.items()}


@pytest.fixture(scope="module", params=["json", "zstd", "deflate"])
def written(request, tmp_path_factory):
    """The folder of the logs, and what is in them."""
    folder = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "deflate":
            from inspect_ai._util.zipfile import zipfile_compress_kwargs

            patched.setitem(zipfile_compress_kwargs, "compression", zipfile.ZIP_DEFLATED)
        logs = evaluate(folder, "json" if request.param == "json" else "eval")
    methods = {
        entry.compress_type
        for path in folder.glob("*.eval")
        for entry in zipfile.ZipFile(path).infolist()
        if entry.filename.startswith("samples/")
    }
    assert methods == {"json": set(), "zstd": {93}, "deflate": {zipfile.ZIP_DEFLATED}}[request.param]
    return folder, logs


def test_a_folder_of_logs_is_compared(written, tmp_path):
    """Models, temperature, epochs, clusters, and the drop over the items that did not fail."""
    folder, logs = written
    options = ("--baseline", "mockllm/base", "--cluster", "subject")
    found = run_analyze(folder, *options, out=tmp_path / "out").comparison("mockllm/int4", 0.7)
    base, int4 = means(logs["mockllm/base"]), means(logs["mockllm/int4"])
    assert BROKEN not in base
    assert (found["items"], found["reruns"]) == (ITEMS - 1, [EPOCHS, EPOCHS])
    assert found["drop"] == pytest.approx(sum(base[i] - int4[i] for i in base) / len(base), abs=1e-12)
    assert (found["missing"], found["failed_answers"]) == (1, [EPOCHS, 0])


def test_epochs_are_reruns(written):
    """Scores of every epoch, as inspect_ai reads them."""
    folder, logs = written
    cells = {cell.variant: cell for cell in read_reruns([str(folder)]).cells}
    for model, log in logs.items():
        scores = {(s.id, s.epoch): float(s.scores["match"].value == "C") for s in log.samples if not s.error}
        cell = cells[model]
        assert cell.seeds == tuple(range(1, EPOCHS + 1))
        for item, row in zip(cell.items.tolist(), cell.scores, strict=True):
            if (item, 1) in scores:
                assert row.tolist() == [scores[item, epoch] for epoch in cell.seeds]


def test_texts_are_imported(written):
    """Prompts, answers and errors are those of inspect_ai."""
    folder, logs = written
    _, (task,) = read_logs([str(folder)], PLAIN)
    _, items, samples = imported(task)
    prompts = {row["item"]: row["prompt"] for row in items.to_pylist()}
    assert set(prompts.values()) == {sample.input for sample in logs["mockllm/base"].samples}
    rows = samples["mockllm/base"].to_pylist()
    answers = sorted(s.output.completion for s in logs["mockllm/base"].samples if not s.error)
    assert sorted(row["response"] for row in rows if not row["error"]) == answers
    assert sum("no answer" in (row["error"] or "") for row in rows) == EPOCHS


def test_several_scorers_are_named(tmp_path):
    """The first one is tested, with a note that lists the others; --metric chooses, also within a scorer."""
    from inspect_ai.scorer import includes, match

    logs = evaluate(tmp_path, "eval", [match(), includes(), graded()])
    read = read_scores([str(tmp_path)])
    (note,) = [notice.text for notice in read.warnings if notice.code == "other-metrics"]
    assert all(name in note for name in ("match", "includes", "graded.half", "graded.length"))
    chosen = read_scores([str(tmp_path)], InputQuery({"sums": "graded.half"}))
    column = chosen.tasks[0].columns["mockllm/base", 0.7]
    expected = means(logs["mockllm/base"])
    items = chosen.tasks[0].items.tolist()
    found = {item: score for item, score in zip(items, column.scores, strict=True) if item != BROKEN}
    assert found == pytest.approx({item: 0.5 * score for item, score in expected.items()})
    assert not [notice for notice in chosen.warnings if notice.code == "other-metrics"]
