"""What the tests of the report share: reports of made runs, a server, a browser where there is one."""

import json
import os
import re
import socket
import threading
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import uvicorn
from hostile import HOSTILE
from standin.browser import NoBrowserError, packages_missing, started
from standin.runs import make_run, tell

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.report.page import report as page_of
from jobs.report.server import Catalog, application
from jobs.text.outputs import verdicts


class Page(HTMLParser):
    """A parsed page: its elements with attributes, and the values of its <data> by what they are of."""

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self.numbers, self._owner = html, [], {}, {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if "data-variant" in attributes:
            self._owner = attributes
        if tag == "data":
            key = tuple(self._owner.get(f"data-{name}") for name in ("variant", "temperature", "task"))
            self.numbers.setdefault((*key, attributes["data-field"]), set()).add(attributes["value"])

    @property
    def payload(self):
        """The embedded flips."""
        text = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.html, re.DOTALL)
        return json.loads(text.group(1))


@pytest.fixture
def parsed():
    """Parses a page."""
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def report(tmp_path):
    """Analyzes inputs and returns the parsed report and the content of verdicts.json."""

    def make(*paths, **settings):
        analysis = analyze([str(p) for p in paths], AnalyzeRequest(**settings))
        out = tmp_path / "analysis"
        out.mkdir(exist_ok=True)
        (out / "report.html").write_text(page_of(analysis), encoding="utf-8")
        page = Page((out / "report.html").read_text(encoding="utf-8"))
        return SimpleNamespace(path=out / "report.html", page=page, verdicts=verdicts(analysis))

    return make


@pytest.fixture
def hostile_run(tmp_path):
    """A run whose prompts, targets, answers and names attack whoever shows them; every item flips."""
    texts = [text.encode("utf-8", "replace").decode() for text in HOSTILE.values()]
    answers = {
        "base": [[(text, 1) for text in texts]],
        '"><script>1</script>': [[(text + " ", 0) for text in texts]],
    }
    task = tell(prompts=texts, targets=texts, **answers)
    return make_run(tmp_path / "hostile", {"<img src=x onerror=alert(1)>": task})


@pytest.fixture
def sampled_run(tmp_path):
    """Two tasks of 12 items, one of them at two reruns: the variant loses some answers and gains one."""
    questions = [f"What is {i} plus {i}?" for i in range(12)]
    right = [(f"It is {2 * i}.", 1) for i in range(12)]
    wrong = [(f"It is {2 * i + 1}, dear Vera.", 0) for i in range(12)]
    greedy = tell(questions, base=[wrong[:1] + right[1:]], variant=[right[:4] + wrong[4:]])
    sampled = tell(questions, temperature=0.5, base=[right, right], variant=[right, right[:6] + wrong[6:]])
    return make_run(tmp_path / "sampled", {"greedy": greedy, "sampled": sampled})


@pytest.fixture
def serve():
    """Serves runs on a free port of 127.0.0.1 and returns the address."""
    stops = []

    def start(*paths):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        app = application(Catalog([str(path) for path in paths]))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        stops.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread, listener in stops:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def chromium():
    """A real browser; skips where none starts, unless LLDEG_BROWSER says that there must be one."""
    if missing := packages_missing():
        _do_without(f".ci/browser installs {', '.join(missing)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        try:
            browser = started(driver)
        except NoBrowserError as error:
            _do_without(f"needs Chromium (Debian: apt-get install chromium): {error}")
        yield browser
        browser.close()


def _do_without(reason):
    if os.environ.get("LLDEG_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)
