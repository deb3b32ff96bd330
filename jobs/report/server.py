"""The page as a small server: flips are paged from Parquet, and a sweep that still runs is counted.

It answers only requests that name this machine, so that no other site can reach it through a browser.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from jobs.formats.run_counts import Count, total
from jobs.report.catalog import CachedRun, Catalog
from jobs.report.flips import Wanted, page
from jobs.report.page import render
from jobs.report.payload import served
from orchestrator.errors import UserError

MOST_PER_PAGE = 100
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}

Show = Callable[[CachedRun, Request], Response]


@dataclass(frozen=True)
class Listed:
    """A run in the list of runs: its count, or why it cannot be counted."""

    name: str
    count: Count | None
    problem: str | None


def application(catalog: Catalog) -> Starlette:
    """The server for some runs."""
    routes = [
        Route("/", _list_of(catalog)),
        Route("/runs/{key}/", _of_run(catalog, _show_run)),
        Route("/runs/{key}/flips", _of_run(catalog, _show_flips)),
        Route("/runs/{key}/progress", _of_run(catalog, _show_progress)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[hosts])


def _list_of(catalog: Catalog) -> Callable[[Request], Response]:
    def show(_: Request) -> Response:
        cached = catalog.runs()
        if len(cached) == 1:
            return RedirectResponse(f"/runs/{next(iter(cached))}/")
        runs = [_listed(key, run) for key, run in cached.items()]
        return HTMLResponse(render("runs.html.jinja", {"title": "Runs", "runs": runs}), headers=HEADERS)

    return show


def _listed(key: str, run: CachedRun) -> Listed:
    try:
        return Listed(key, total(run.counts().values()), None)
    except UserError as error:
        return Listed(key, None, str(error))


def _of_run(catalog: Catalog, show: Show) -> Callable[[Request], Response]:
    """An endpoint that finds its run first."""

    @wraps(show)
    def endpoint(request: Request) -> Response:
        run = catalog.runs().get(request.path_params["key"])
        if run is None:
            return JSONResponse({"error": "There is no such run."}, status_code=404)
        try:
            return show(run, request)
        except UserError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return endpoint


def _show_run(run: CachedRun, request: Request) -> Response:
    try:
        text = render("report.html.jinja", {"content": run.analyze().content, "flips": None, "live": True})
    except UserError as error:
        values = {"title": request.path_params["key"], "reason": str(error)}
        text = render("waiting.html.jinja", values)
    return HTMLResponse(text, headers=HEADERS)


def _show_flips(run: CachedRun, request: Request) -> Response:
    query = request.query_params
    wanted = _wanted(query)
    start, count = _whole(query, "start", 0), min(_whole(query, "count", 20), MOST_PER_PAGE)
    analyzed = run.analyze()
    found = analyzed.find(wanted, query.get("text", ""))
    size = sum(len(flips) for flips in found)
    return JSONResponse(served(list(page(found, start, count)), analyzed.texts, size), headers=HEADERS)


def _show_progress(run: CachedRun, _: Request) -> Response:
    counts = run.counts()
    variants = [{"variant": name, **_counted(count)} for name, count in counts.items()]
    return JSONResponse({"variants": variants, **_counted(total(counts.values()))}, headers=HEADERS)


def _counted(count: Count) -> dict[str, int]:
    return {**asdict(count), "needed": count.needed}


def _wanted(query: Any) -> Wanted:
    direction = query.get("direction") or None
    if direction not in {None, "worse", "better"}:
        raise UserError("The direction must be worse or better.")
    try:
        temperature = float(query["temperature"]) if query.get("temperature") else None
    except ValueError:
        raise UserError("The temperature must be a number.") from None
    return Wanted(
        variant=query.get("variant") or None,
        temperature=temperature,
        task=query.get("task") or None,
        direction=direction,
        item=query.get("item") or None,
    )


def _whole(query: Any, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise UserError(f"The {name} must be a whole number.")
    return int(text)
