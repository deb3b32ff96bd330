"""The page in a real browser: it opens, filters, links, marks differences, and lets nothing in or out."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hostile import HOSTILE
from standin.runs import make_run, tell

from jobs.report.texts import visible

pytestmark = pytest.mark.ray


@pytest.fixture
def open_page(chromium):
    """Opens an address; in the end there must be no console message and no request to anywhere else."""
    pages, trouble = [], []

    def open_(address, **options):
        page = chromium.new_page(**options)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        local = ("file:", "data:", "http://127.0.0.1:")
        page.on("request", lambda r: None if r.url.startswith(local) else trouble.append(r.url))
        page.goto(address)
        page.wait_for_selector("#count:not(:empty)", state="attached")
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert trouble == []


@pytest.fixture
def report_page(report, sampled_run, open_page):
    """The report of the sampled run, opened."""
    return lambda **options: open_page(report(sampled_run).path.as_uri(), **options)


def test_filters_narrow_the_list(report_page):
    """Choosing a direction leaves the flips of that direction, and the address says so."""
    page = report_page()
    assert page.inner_text("#count") == "15 flips"
    page.select_option("[name=direction]", "better")
    page.wait_for_selector("#count:text-is('1 flip')")
    assert page.evaluate("location.hash") == "#flips?direction=better"


def test_text_is_searched(report_page):
    """Typing finds text in prompts and answers."""
    page = report_page()
    page.fill("[name=text]", "7 PLUS 7")
    page.wait_for_selector("#count:text-is('2 flips')")


def test_a_count_leads_to_its_items(report_page):
    """The number of flips of a task is a link to exactly these."""
    page = report_page()
    page.click("tr[data-task=greedy] a:has-text('worse')")
    page.wait_for_selector("#count:text-is('8 flips')")


def test_a_link_opens_one_item(report, sampled_run, open_page):
    """An address with an item shows that item, open, with prompt, target and both answers."""
    uri = report(sampled_run).path.as_uri()
    page = open_page(f"{uri}#flips?variant=variant&temperature=0.5&task=sampled&item=7")
    assert page.inner_text("#count") == "1 flip"
    shown = page.inner_text(".detail")
    assert all(
        text in shown for text in ("What is 7 plus 7?", "42", "It is 14.", "It is 15, dear Vera.", "seed 1")
    )


@pytest.mark.parametrize("task", ["greedy", "sampled"])
def test_an_item_links_to_itself(report_page, task):
    """The link inside of an item leads to that item alone, at temperature 0 as elsewhere."""
    page = report_page()
    page.select_option("[name=task]", task)
    page.locator(".flip summary").first.click()
    page.click("text=Link to this item")
    page.wait_for_selector("#count:text-is('1 flip')")
    assert page.locator("select[name=temperature]").input_value() == {"greedy": "0", "sampled": "0.5"}[task]


def test_the_difference_is_marked(report, sampled_run, open_page):
    """What only one of two answers says is marked in it; what both say is not."""
    page = open_page(f"{report(sampled_run).path.as_uri()}#flips?task=greedy&item=7")
    assert page.locator("del").all_inner_texts() == ["14"]
    assert page.locator("ins").all_inner_texts() == ["15, dear Vera"]


def test_the_keyboard_opens_an_item(report_page):
    """Enter on a flip opens it, and a second one closes it."""
    page = report_page()
    page.locator(".flip summary").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".detail")
    page.keyboard.press("Enter")
    assert not page.locator(".flip").first.evaluate("box => box.open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_readers_choice(report_page, scheme):
    """A dark page for who likes it dark."""
    page = report_page(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) > 382) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 390, 1280, 1920])
def test_the_page_fits_its_screen(report_page, width):
    """Nothing sticks out sideways, on a phone either."""
    page = report_page(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    page.wait_for_selector(".detail")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "surrogate"])
def test_hostile_answers_do_nothing(report, hostile_run, open_page, kind):
    """Opened, each hostile answer stands there as text, and no script of it ran."""
    page = open_page(f"{report(hostile_run).path.as_uri()}#flips?item={list(HOSTILE).index(kind)}")
    text = page.evaluate("[...document.querySelectorAll('.pair pre')].map((box) => box.textContent)")[0]
    assert text == visible(HOSTILE[kind]) or (kind == "megabyte" and "omitted" in text)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#list script, #list img, .detail pre a").count() == 0


def test_long_answers_do_not_stop_the_page(report, tmp_path, open_page):
    """Two long answers without a common word are shown at once, whatever their comparison would cost."""
    one, two = (" ".join(f"{letter}{i}" for i in range(50_000)) for letter in "ab")
    run = make_run(tmp_path / "long", {"t": tell(base=[[(one, 1)]], variant=[[(two, 0)]])})
    page = open_page(f"{report(run).path.as_uri()}#flips?item=0")
    page.wait_for_selector(".detail del", timeout=2000)


def test_the_served_page_pages_and_searches(serve, sampled_run, open_page):
    """The same page over the server fetches its flips, page by page."""
    page = open_page(f"{serve(sampled_run)}/runs/sampled/")
    assert page.inner_text("#count") == "15 flips"
    page.fill("[name=text]", "vera")
    page.select_option("[name=task]", "sampled")
    page.wait_for_selector("#count:text-is('6 flips')")


def test_a_running_sweep_is_watched(serve, sampled_run, open_page):
    """A run that lacks samples shows how far it is, and notices when they come."""
    samples = sampled_run / "samples" / "variant=variant" / "task=greedy"
    late = next(samples.glob("0000010*.parquet"))
    content = late.read_bytes()
    late.unlink()
    page = open_page(f"{serve(sampled_run)}/runs/sampled/")
    page.wait_for_selector("#progress:visible")
    assert "34 of 36" in page.inner_text("#progress")
    late.write_bytes(content)
    page.wait_for_selector("text=This run is complete", timeout=10_000)


@pytest.fixture
def axe(chromium):
    """The script of axe-core, which the Python package that drives it carries."""
    (folder,) = find_spec("axe_playwright_python").submodule_search_locations
    return Path(folder) / "axe.min.js"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(report, sampled_run, chromium, axe, scheme):
    """axe-core finds nothing against people who read with a screen reader, by keyboard or with weak eyes."""
    context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(report(sampled_run).path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    page.wait_for_selector(".detail")
    page.add_script_tag(path=axe)
    assert [found["id"] for found in page.evaluate("axe.run()")["violations"]] == []
    context.close()
