"""A run to review: pictures of three colours, what was predicted for them, and a client of the application."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.review.prediction_index import PredictionIndex, open_index
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.screens import ScreenAddress
from ray_jobs.review.web_app import build_app
from tests.ray_jobs.written_run import RUN, WrittenRun

PORT, TOKEN = 8377, "a-token-of-a-test"
HOST = f"127.0.0.1:{PORT}"


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(file, "PNG")
    return file.getvalue()


def pictures(count: int) -> dict[str, bytes]:
    return {f"folder/{index:03}.png": png((index % 256, 2 * index % 256, 99)) for index in range(count)}


def written_run(folder: Path, images: Mapping[str, bytes] | int = 60, **options: Any) -> WrittenRun:
    kind = options.pop("kind", "folder")
    content = pictures(images) if isinstance(images, int) else images
    return WrittenRun(folder, **options).write(content, kind=kind)


def open_session(
    run: WrittenRun, *, by: str = "ann", size: int = 12, planted: float = 0.0, **options: Any
) -> ReviewSession:
    """A session as a new process has it; nothing is planted unless a test asks for it."""
    archive = LabelledArchive.open(run.store.url(RUN))
    return ReviewSession(archive, PredictionIndex(index_path(run)), by=by, size=size, planted=planted, **options)


def index_path(run: WrittenRun) -> Path:
    return open_index(LabelledArchive.open(run.store.url(RUN)).run, run.folder / "indexes")


def browser(session: ReviewSession, *, start: ScreenAddress | None = None) -> TestClient:
    """A client with the cookie of the printed URL, as a browser has it."""
    app = build_app(session, port=PORT, token=TOKEN, start=start)
    client = TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
    assert client.get(f"/enter/{TOKEN}").status_code == 200
    client.headers["origin"] = f"http://{HOST}"
    return client


def shown(page: str) -> list[dict[str, str]]:
    """The images of a page: number, key, and the class that is proposed."""
    found = re.findall(r'data-id="(\d+)" data-key="([^"]*)" data-proposed="([^"]*)"', page)
    return [{"id": number, "key": key, "proposed": proposed} for number, key, proposed in found]


def decision(page: str, answers: Sequence[Mapping[str, object]] | None = None) -> dict[str, object]:
    """What the page sends at Enter, with other answers than the proposed ones if they are given."""
    values = dict(re.findall(r'data-(screen|kind|name|after|index)="([^"]*)"', page.partition("<header>")[0]))
    accepted = [{"id": int(each["id"]), "answer": "label", "label": each["proposed"]} for each in shown(page)]
    return {**values, "answers": accepted if answers is None else list(answers)}
