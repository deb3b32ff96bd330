"""The page as a small server: flips are paged from Parquet, and a sweep that still runs is counted.

Each run is analyzed when somebody looks at it and again when it has grown. The server answers only requests
that name this machine, so that no other site can reach it through a browser.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from jobs.analysis.analyze import analyze
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.run_files import Count, Footers, RunFiles, runs_in
from jobs.report.flips import Flips, flips_json, flips_of, search_flips, select_flips
from jobs.report.page import content_of, render
from jobs.report.texts import Texts
from orchestrator.errors import UserError

AS_IN_THE_SWEEP = AnalyzeRequest()
REMEMBERED = 16  # searches whose results are kept, so that turning a page does not search again
MOST_PER_PAGE = 100
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}


class CachedRun:
    """One run, and its analysis if somebody has looked at it."""

    def __init__(self, location: str, request: AnalyzeRequest) -> None:
        self.location, self._request = location, request
        self._footers, self._lock, self._files = Footers(), Lock(), -1
        self._analyzed: tuple[dict[str, Any], Texts, Callable[..., Flips]] | None = None

    def counts(self) -> dict[str, Count]:
        """Samples by variant, now."""
        return self._footers.count(RunFiles.open(self.location))

    def analyze(self) -> tuple[dict[str, Any], Texts, Callable[..., Flips]]:
        """The page but the flips, prompts and answers, and a search of all flips, in the run's current state.

        Raises UserError if it cannot be read or compared.
        """
        with self._lock:
            run = RunFiles.open(self.location)
            files = sum(len(run.samples(model, task)) for model in run.models for task in run.tasks)
            if self._analyzed is None or files != self._files:
                self._analyzed = None  # two of them at once would need twice the memory
                analysis = analyze([self.location], self._request)
                index, texts = flips_of(analysis), Texts(analysis.scores.runs)

                @lru_cache(REMEMBERED)
                def find(text: str = "", **wanted: Any) -> Flips:
                    selected = select_flips(index, **wanted)
                    return search_flips(selected, texts, text) if text and selected else selected

                self._analyzed, self._files = (content_of(analysis), texts, find), files
            return self._analyzed


class Catalog:
    """The runs that a server shows, by a name that is safe in a URL because it is only ever looked up.

    Raises:
        UserError: none of the paths is a run or a folder of runs.
    """

    def __init__(self, paths: Sequence[str], request: AnalyzeRequest = AS_IN_THE_SWEEP) -> None:
        self._paths, self._request = paths, request
        self._runs: dict[str, CachedRun] = {}
        if not self.runs():
            where = ", ".join(paths)
            raise UserError(
                f"There is no run directory in {where}, and lldeg view shows only run directories."
            )

    def runs(self) -> dict[str, CachedRun]:
        """All runs there are now, those that came since included."""
        locations = dict.fromkeys(run for path in self._paths for run in runs_in(path))
        for location in locations:
            if all(run.location != location for run in self._runs.values()):
                name = location.rstrip("/").rpartition("/")[2] or location
                key = name if name not in self._runs else f"{name}~{len(self._runs)}"
                self._runs[key] = CachedRun(location, self._request)
        return {key: run for key, run in self._runs.items() if run.location in locations}


def application(catalog: Catalog) -> Starlette:
    """The server for some runs."""

    def show_list(_: Request) -> Response:
        runs = catalog.runs()
        if len(runs) == 1:
            return RedirectResponse(f"/runs/{next(iter(runs))}/")
        rows: list[tuple[str, Count | None, str | None]] = []
        for key, run in runs.items():
            try:
                rows.append((key, Count.total(run.counts().values()), None))
            except UserError as error:
                rows.append((key, None, str(error)))
        return HTMLResponse(render("runs.html.jinja", {"title": "Runs", "runs": rows}), headers=HEADERS)

    def of_run(show: Callable[[CachedRun, Request], Response]) -> Callable[[Request], Response]:
        """An endpoint that finds its run first."""

        def endpoint(request: Request) -> Response:
            run = catalog.runs().get(request.path_params["key"])
            if run is None:
                return JSONResponse({"error": "There is no such run."}, status_code=404)
            try:
                return show(run, request)
            except UserError as error:
                return JSONResponse({"error": str(error)}, status_code=400)

        return endpoint

    routes = [
        Route("/", show_list),
        Route("/runs/{key}/", of_run(_show_run)),
        Route("/runs/{key}/flips", of_run(_show_flips)),
        Route("/runs/{key}/progress", of_run(_show_progress)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


def _show_run(run: CachedRun, request: Request) -> Response:
    try:
        text = render("report.html.jinja", {"content": run.analyze()[0], "flips": None, "live": True})
    except UserError as error:
        text = render("waiting.html.jinja", {"title": request.path_params["key"], "reason": str(error)})
    return HTMLResponse(text, headers=HEADERS)


def _show_flips(run: CachedRun, request: Request) -> Response:
    query, names = request.query_params, ("variant", "temperature", "task", "direction", "item")
    wanted: dict[str, Any] = {name: query.get(name) or None for name in names}
    if wanted["direction"] not in {None, "worse", "better"}:
        raise UserError("The direction must be worse or better.")
    try:
        wanted["temperature"] = wanted["temperature"] and float(wanted["temperature"])
    except ValueError:
        raise UserError("The temperature must be a number.") from None
    start, count = _whole(query, "start", 0), min(_whole(query, "count", 20), MOST_PER_PAGE)
    _, texts, find = run.analyze()
    selected = find(query.get("text", ""), **wanted)
    page = selected.where(slice(start, start + count))
    return JSONResponse(flips_json(page, texts, len(selected)), headers=HEADERS)


def _whole(query: Any, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise UserError(f"The {name} must be a whole number.")
    return int(text)


def _show_progress(run: CachedRun, _: Request) -> Response:
    counts = run.counts()
    each = [{"variant": name, **asdict(c), "needed": c.needed} for name, c in counts.items()]
    whole = Count.total(counts.values())
    return JSONResponse({"variants": each, **asdict(whole), "needed": whole.needed}, headers=HEADERS)
