"""The pages of review: routes, templates, and the two requests that change something."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cluster.errors import ClusterError
from cluster.secrets import redacted
from ray_jobs.errors import JobError
from ray_jobs.review.decisions import read_decision
from ray_jobs.review.prediction_index import IndexedImage
from ray_jobs.review.request_guard import RequestGuard
from ray_jobs.review.review_session import ReviewSession, new_screen_id
from ray_jobs.review.screens import Screen, ScreenAddress, ScreenImage
from ray_jobs.review.thumbnails import LARGE_SIDE, SIDE, scaled

FOLDER = Path(__file__).parent
STATIC = {"review.css": "text/css", "review.js": "text/javascript", "icon.svg": "image/svg+xml"}
MOST_CLASSES = 300
"""Classes that the first page lists; the others are found by typing."""
MOST_TOP = 9
"""Predictions of an image that digits choose from."""
SHIFTED = ascii_uppercase
HINTS = "".join(letter for letter in ascii_lowercase if letter not in "nsux") + SHIFTED
"""Keys that choose the images of a screen, in order; some letters are commands."""
KEPT = "private, max-age=3600"
"""`Cache-Control` of pictures, whose addresses name the index."""
_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def build_app(session: ReviewSession, *, port: int, token: str, start: ScreenAddress | None = None) -> ASGIApp:
    """Return the application.

    Args:
        session: what it shows.
        port: that the server listens on.
        token: that the printed URL has.
        start: screen that is shown first; None for the list of all.
    """
    pages = _Pages(session, start)
    routes = [
        Route("/", pages.home),
        Route("/screens", pages.home),
        Route("/screen", pages.screen),
        Route("/labels", pages.labels),
        Route("/picture/{index:str}/{number:int}", pages.picture),
        Route("/large/{index:str}/{number:int}", pages.large),
        Route("/nearest/{index:str}/{number:int}", pages.nearest),
        Route("/example/{index:str}/{number:int}", pages.example),
        Route("/static/{name:str}", pages.static),
        Route("/decide", pages.decide, methods=["POST"]),
        Route("/undo", pages.undo, methods=["POST"]),
    ]
    failed: Mapping[Any, Any] = {JobError: _failed, ClusterError: _failed, OSError: _failed}
    return RequestGuard(Starlette(routes=routes, exception_handlers=failed), port=port, token=token)


class _Pages:
    def __init__(self, session: ReviewSession, start: ScreenAddress | None) -> None:
        self._session, self._start = session, start
        loader = FileSystemLoader(FOLDER / "templates")
        templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        templates.filters |= {"plain": plain, "percent": percent}
        templates.globals |= {"address": address_url, "run": session.archive.run.name, "by": session.by}
        self._templates = templates
        self._static = {name: (FOLDER / "static" / name).read_bytes() for name in STATIC}

    def home(self, request: Request) -> Response:
        if request.url.path == "/" and self._start is not None:
            return RedirectResponse(address_url(self._start), 303)
        session = self._session
        counts = sorted(session.class_counts().items(), key=lambda item: (item[1][1] - item[1][0], item[0]))
        return self._page(
            "home.html",
            classes=counts[:MOST_CLASSES],
            hidden=max(0, len(counts) - MOST_CLASSES),
            lists=session.list_titles(),
            compares=session.compares,
            progress=session.progress(),
        )

    def screen(self, request: Request) -> Response:
        query = request.query_params
        address = ScreenAddress.parse(*(query.get(key, "") for key in ("kind", "name", "after")))
        screen_id = new_screen_id()
        screen = self._session.screen(address, screen_id=screen_id)
        if not screen.images and address.after is not None:
            return RedirectResponse("/screens", 303)
        following = self._session.following(screen)
        return self._page(
            "screen.html",
            screen=screen,
            screen_id=screen_id,
            index=self._session.index.name,
            hints=SHIFTED if screen.is_blind else HINTS,
            images=[_shown(each, screen) for each in screen.images],
            following=[each.image.id for each in following.images],
            progress=self._session.progress(),
        )

    def labels(self, _: Request) -> Response:
        return JSONResponse(self._session.labels)

    def picture(self, request: Request) -> Response:
        image = self._image(request)
        loaded = self._session.images.thumbnail(image)
        return _picture(loaded.problem or loaded.thumbnail)

    def large(self, request: Request) -> Response:
        loaded = self._session.images.content(self._image(request))
        return _picture(loaded.problem or scaled(loaded.content, LARGE_SIDE))

    def nearest(self, request: Request) -> Response:
        image = self._image(request)
        try:
            return JSONResponse({"examples": [asdict(each) for each in self._session.nearest.find(image)]})
        except JobError as error:  # Nothing failed: many an output has no features.
            return JSONResponse({"examples": [], "problem": redacted("; ".join(error.problems))})

    def example(self, request: Request) -> Response:
        content = self._session.nearest.content(request.path_params["number"])
        return _picture(content if isinstance(content, str) else scaled(content, SIDE))

    def _image(self, request: Request) -> IndexedImage:
        found = []
        if request.path_params["index"] == self._session.index.name:
            found = self._session.index.images([request.path_params["number"]])
        if not found:
            raise JobError(["there is no such image in this run"])
        return found[0]

    def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(self._static[name], media_type=STATIC[name], headers={"Cache-Control": "no-cache"})

    async def decide(self, request: Request) -> Response:
        decision = read_decision(await request.body(), most=2 * self._session.size)
        written = await run_in_threadpool(self._session.decide, decision)
        return JSONResponse({"written": written})

    async def undo(self, request: Request) -> Response:
        try:
            batch = json.loads(await request.body())["batch"]
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise JobError(["expected the ID of what is undone"]) from error
        undone = await run_in_threadpool(self._session.undo, str(batch))
        return JSONResponse({"undone": undone})

    def _page(self, template: str, **values: object) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values))


def address_url(address: ScreenAddress) -> str:
    """Return where the page of a screen is."""
    words = {"kind": address.kind, "name": address.name, "after": address.after_text}
    return "/screen?" + urlencode({key: value for key, value in words.items() if value})


def plain(text: str, limit: int = 80) -> str:
    """Return text from outside without characters that are not shown; of a longer one both ends."""
    head, tail = limit // 2, limit - limit // 2 - 1
    short = text if len(text) <= limit else f"{text[:head]}…{text[-tail:]}"
    return "".join("\ufffd" if unicodedata.category(char) in _HIDDEN else char for char in short)


def percent(fraction: float | None) -> str:
    """Return a fraction in [0, 1] as a percentage; "" for None."""
    return "" if fraction is None else f"{100 * fraction:.0f}\u00a0%"


def _shown(each: ScreenImage, screen: Screen) -> dict[str, object]:
    """Return what the page shows of an image: nothing that tells planted ones apart, and no prediction if blind."""
    top: list[tuple[str, float | None]] = []
    if not screen.is_blind:
        top = list(each.image.top[:MOST_TOP])
    if each.is_planted and each.proposed is not None:  # As if it had been predicted.
        real = [name for name, _ in top if name != each.proposed]
        top = [(name, score) for name, (_, score) in zip([each.proposed, *real], top, strict=False)]
    return {
        "id": each.image.id,
        "key": each.image.image,
        "proposed": each.proposed,
        "why": each.why,
        "score": top[0][1] if top else None,
        "top": json.dumps([[name, score] for name, score in top]),
    }


def _picture(content: bytes | str) -> Response:
    if isinstance(content, str):
        return PlainTextResponse(f"{redacted(content)}\n", 422, headers={"Cache-Control": "no-store"})
    return Response(content, media_type="image/webp", headers={"Cache-Control": KEPT})


def _failed(_: Request, error: Exception) -> Response:
    problems = [redacted(text) for text in getattr(error, "problems", [str(error)])]
    status = 400 if isinstance(error, JobError) else 503
    return PlainTextResponse("\n".join([*problems, ""]), status)
