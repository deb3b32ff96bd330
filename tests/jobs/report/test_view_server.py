"""The server behind `lldeg view`: pages of flips, search, progress, and who may ask."""

import json
import shutil
from http.client import HTTPConnection
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest
from hostile import HOSTILE
from standin.runs import make_run, tell

from jobs.report.server import Catalog
from jobs.report.texts import visible
from orchestrator.errors import UserError
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.ray


def get(address):
    """The JSON of an answer."""
    with urlopen(address) as answer:
        return json.loads(answer.read())


def refusal(address):
    """Status and message of an answer that is an error."""
    with pytest.raises(HTTPError) as caught:
        urlopen(address)
    return caught.value.code, json.loads(caught.value.read())["error"]


def test_pages_hold_every_flip(serve, sampled_run):
    """All flips come, page by page, each once."""
    flips = f"{serve(sampled_run)}/runs/sampled/flips"
    found = [flip for start in range(0, 20, 4) for flip in get(f"{flips}?start={start}&count=4")["flips"]]
    assert len({(f["task"], f["item"]) for f in found}) == len(found) == get(flips)["total"] == 15


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("direction=better", 1),
        ("task=greedy&direction=worse", 8),
        ("temperature=0.5", 6),
        ("text=VERA", 15),
        ("text=11%20plus", 2),
        ("text=It%20is%2014.&task=greedy", 1),
        ("text=nowhere", 0),
        ("task=greedy&item=4", 1),
        ("variant=none", 0),
    ],
)
def test_filters_and_search(serve, sampled_run, query, count):
    """Filters narrow, and text is found in prompts and answers whatever its case."""
    assert get(f"{serve(sampled_run)}/runs/sampled/flips?{query}")["total"] == count


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in {"megabyte", "surrogate"}])
def test_hostile_answers_are_text(serve, hostile_run, kind):
    """Each hostile answer is served as JSON, visible and in full."""
    answer = get(f"{serve(hostile_run)}/runs/hostile/flips?item={list(HOSTILE).index(kind)}")
    assert visible(HOSTILE[kind]) in answer["strings"]


def test_a_hostile_search_finds_its_text(serve, hostile_run):
    """A search is for text, never a pattern: signs of regular expressions and markup mean themselves."""
    flips = f"{serve(hostile_run)}/runs/hostile/flips"
    assert get(f"{flips}?text={quote('${7*7}')}")["total"] == 1
    assert get(f"{flips}?text={quote('.*')}")["total"] == 0


def test_progress_is_counted_from_the_files(serve, sampled_run):
    """What is gone from the disk is owed again, and the page says how far each variant is."""
    shutil.rmtree(sampled_run / "samples" / "variant=variant" / "task=greedy")
    counts = get(f"{serve(sampled_run)}/runs/sampled/progress")
    assert (counts["planned"], counts["done"], counts["errors"]) == (72, 60, 0)
    assert {v["variant"]: v["done"] for v in counts["variants"]} == {"base": 36, "variant": 24}


def test_errors_are_counted(serve, tmp_path):
    """A row with an error is counted as one."""
    task = tell(["q"] * 3, base=[[("a", 1)] * 3], variant=[[("a", 1), (None, None), ("a", 0)]])
    counts = get(f"{serve(make_run(tmp_path / 'run', {'t': task}))}/runs/run/progress")
    assert (counts["done"], counts["errors"]) == (6, 1)


def test_what_is_not_needed_is_not_to_come(serve, sampled_run):
    """Of a sweep that stopped early, the page does not wait for samples that nobody asks for."""
    shutil.rmtree(sampled_run / "samples" / "variant=variant" / "task=greedy")
    told = {"variants": {"variant": {"not_needed": 12}}}
    RunStore(sampled_run).write_log("status.json", json.dumps(told).encode())
    counts = get(f"{serve(sampled_run)}/runs/sampled/progress")
    assert (counts["planned"], counts["needed"], counts["done"]) == (72, 60, 60)


def test_a_torn_file_is_owed_and_breaks_nothing(serve, sampled_run):
    """A file cut off by a dying disk counts for nothing, and the rest is shown."""
    torn = next((sampled_run / "samples" / "variant=variant" / "task=greedy").glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:50])
    address = f"{serve(sampled_run)}/runs/sampled"
    assert get(f"{address}/progress")["done"] == 70
    assert get(f"{address}/flips?task=sampled")["total"] == 6


def test_a_run_that_grows_is_analyzed_again(serve, sampled_run):
    """New files change the page when it is loaded again."""
    samples = sampled_run / "samples" / "variant=variant" / "task=greedy"
    late = next(samples.glob("0000010*.parquet"))
    content = late.read_bytes()
    late.unlink()
    flips = f"{serve(sampled_run)}/runs/sampled/flips?task=greedy"
    before = get(flips)["total"]
    late.write_bytes(content)
    assert (before, get(flips)["total"]) == (7, 9)


def test_a_run_without_answers_waits(serve, sampled_run):
    """Before there is a verdict, the page says so and why, and shows the progress."""
    shutil.rmtree(sampled_run / "samples")
    with urlopen(f"{serve(sampled_run)}/runs/sampled/") as answer:
        page = answer.read().decode()
    assert "There is no verdict yet." in page
    assert "no samples" in page
    assert 'id="progress"' in page


def test_runs_of_a_folder_are_listed(serve, sampled_run, hostile_run):
    """A folder of runs has a page that links to each, those that came later included."""
    address = serve(sampled_run.parent)
    shutil.copytree(sampled_run, sampled_run.parent / "late one")
    with urlopen(f"{address}/") as answer:
        page = answer.read().decode()
    assert all(f'href="/runs/{name}/"' in page for name in ("sampled", "hostile", "late%20one"))


def test_one_run_is_shown_at_once(serve, sampled_run):
    """With a single run there is nothing to pick."""
    with urlopen(f"{serve(sampled_run)}/") as answer:
        assert urlsplit(answer.url).path == "/runs/sampled/"


@pytest.mark.parametrize("name", ["other", "..", "..%2Fsampled", "%2Fetc"])
def test_an_unknown_run_is_refused(serve, sampled_run, name):
    """Names are looked up, never taken for paths."""
    with pytest.raises(HTTPError) as caught:
        urlopen(f"{serve(sampled_run)}/runs/{name}/progress")
    assert caught.value.code == 404


@pytest.mark.parametrize("query", ["start=-1", "count=x", "start=1e3", "direction=up", "temperature=warm"])
def test_a_bad_question_is_one_sentence(serve, sampled_run, query):
    """Nonsense in an address ends in a sentence, not in a traceback."""
    status, message = refusal(f"{serve(sampled_run)}/runs/sampled/flips?{query}")
    assert status == 400
    assert message.endswith(".")


def test_other_hosts_are_refused(serve, sampled_run):
    """A name that another site points at this machine opens nothing."""
    connection = HTTPConnection(urlsplit(serve(sampled_run)).netloc)
    connection.request("GET", "/runs/sampled/progress", headers={"Host": "attacker.example"})
    assert connection.getresponse().status == 400


def test_a_folder_without_runs_is_refused(tmp_path):
    """There must be something to show."""
    with pytest.raises(UserError, match="no run directory in"):
        Catalog([str(tmp_path)])
