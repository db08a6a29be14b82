"""`fewshot review` as a command: its process, its errors, and its end."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
from urllib.request import urlopen

import pytest
import uvicorn

from cluster.errors import StorageError
from ray_jobs.errors import JobError
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.review import server as review_server
from ray_jobs.review.prediction_index import PredictionIndex
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.start import classes_of, first_screen, other_run
from ray_jobs.review.thumbnails import ImageCache
from tests.ray_jobs.place import CLASSES, Place, fewshot
from tests.ray_jobs.review.reviewed_run import browser, decision, index_path, open_session, pictures, written_run
from tests.ray_jobs.review.served_run import served
from tests.ray_jobs.written_run import RUN, WrittenRun
from tests.s3.bucket import Bucket


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path, 30)


@pytest.mark.slow
def test_the_server_is_on_loopback_alone_and_ends_by_ctrl_c(run: WrittenRun) -> None:
    with served(run) as server:
        assert server.url.startswith(f"http://127.0.0.1:{server.port}/enter/")
        with urlopen(server.url, timeout=20) as answer:
            assert answer.status == 200
            assert answer.headers["set-cookie"]
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", server.port), timeout=2):
            pass
        code, out, err = server.stop()
    assert code == 0
    assert json.loads(out) == {
        "by": "ann",
        "labelled": 0,
        "ledger": str(run.folder / "output/labels"),
        "missed": 0,
        "planted": 0,
    }
    assert "0 images are labelled by ann" in err
    assert "Traceback" not in err


def test_ctrl_c_waits_for_a_decision_that_is_being_written(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def run_until_told_to_end(server: uvicorn.Server, _: object) -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        while not server.should_exit:
            time.sleep(0.01)
        time.sleep(0.3)
        written.append("decision")

    monkeypatch.setattr(uvicorn.Server, "run", run_until_told_to_end)
    monkeypatch.setattr(review_server, "acknowledge", lambda: None)
    review_server.serve(open_session(run), say=lambda _: None, port=0)
    assert written == ["decision"]


def test_missing_packages_are_named_with_the_way_to_get_them(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "starlette" else find(name))
    result = fewshot("review", run.store.url(RUN))
    assert result.code == 2
    assert "fewshot review needs starlette: pip install 'fewshot[review]'" in result.messages


def test_a_port_that_is_taken_is_an_error(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.folder / "cache"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = fewshot("review", run.store.url(RUN), "--port", str(port))
    assert result.code == 2
    assert f"--port {port}: " in result.messages


def test_screens_are_found_by_name(run: WrittenRun) -> None:
    run.store.put("suggestions/next.json", b'{"kind": "search", "query": "a plum", "images": []}')
    session = open_session(run)
    assert [first_screen(session, name).kind for name in ("amber", "next", "least")] == ["class", "list", "least"]
    known = r"least, large, disagreements, skipped, next \(Search: a plum\), and the predicted classes"
    with pytest.raises(JobError, match=f"no screen 'purple'; known: {known}"):
        first_screen(session, "purple")


def test_an_index_is_made_once_and_old_ones_are_removed(tmp_path: Path) -> None:
    runs = [written_run(tmp_path / str(number), 3) for number in range(2)]
    folder = runs[0].folder / "indexes"
    path = index_path(runs[0])
    made = path.stat().st_ino
    assert index_path(runs[0]).stat().st_ino == made
    for number in range(6):
        (folder / f"{number}.sqlite").write_bytes(b"")
    path.unlink()
    index_path(runs[0])
    assert len(list(folder.iterdir())) == 4
    assert path.exists()


def test_an_index_that_was_not_finished_is_made_anew(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("ray_jobs.review.prediction_index._INDEXES", "nonsense")
        with pytest.raises(Exception, match="syntax error"):
            index_path(run)
    assert list((run.folder / "indexes").iterdir()) == []
    assert index_path(run).exists()


def test_pages_without_scores_are_ordered_by_margin(tmp_path: Path) -> None:
    run = written_run(tmp_path, 12, has_scores=False)
    index = open_session(run).index
    images = index.of_class(0, 12)
    assert [image.image for image in images] == [f"folder/{place:03}.png" for place in (0, 3, 6, 9)]
    assert {image.score for image in images} == {None}
    assert {score for image in images for _, score in image.top} == {None}


def test_images_of_equal_certainty_are_all_shown(tmp_path: Path) -> None:
    run = written_run(tmp_path, 40, has_scores=False, classes=("amber",))
    with closing(sqlite3.connect(index_path(run))) as database:
        database.execute("UPDATE images SET certainty = 1.0")
        database.commit()
    index = open_session(run).index
    for page in (partial(index.of_class, 0), index.least_certain):
        seen, after = [], None
        while images := page(7, after):
            seen += [image.id for image in images]
            after = images[-1].cursor
        assert sorted(seen) == list(range(1, 41))


def test_contents_that_do_not_fit_in_memory_are_read_again(tmp_path: Path) -> None:
    run = written_run(tmp_path, pictures(30))
    session = open_session(run)
    images = session.index.least_certain(30)
    cache = ImageCache(session.archive, thumbnail_bytes=300, content_bytes=300)
    cache.prefetch(images)
    assert {cache.thumbnail(image).thumbnail[8:12] for image in images} == {b"WEBP"}
    contents = cache.contents(images)
    assert {number: loaded.content for number, loaded in contents.items()} == {
        image.id: pictures(30)[image.image] for image in images
    }
    assert cache._thumbnails._bytes <= 300
    assert cache._contents._bytes <= 300


def test_an_archive_of_tars_is_listed_once_for_all_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = written_run(tmp_path, 30, kind="tar")
    session = open_session(run)
    kind, lists = type(session.archive.source), []
    shards = kind.shards
    monkeypatch.setattr(kind, "shards", lambda source: lists.append(source) or shards(source))
    for image in session.index.least_certain(30):
        assert session.images.content(image).problem is None
    assert len(lists) == 1


def test_classes_that_were_never_predicted_can_be_typed(finished: Place, run: WrittenRun) -> None:
    of_classifier = classes_of(LabelledArchive.open(str(finished.output)).run)
    assert of_classifier == CLASSES
    assert classes_of(LabelledArchive.open(run.store.url(RUN)).run) == ()
    assert open_session(run, classes=["violet"]).labels == [*CLASSES, "violet"]


def test_runs_of_two_archives_are_not_compared(run: WrittenRun, tmp_path: Path) -> None:
    archive = LabelledArchive.open(run.store.url(RUN))
    assert other_run(run.store.url(RUN), archive).name == archive.run.name
    other = written_run(tmp_path / "other", 30)
    with pytest.raises(JobError, match=r"--against .*: that run classified .*other/archive, and this one .*archive;"):
        other_run(other.store.url(RUN), archive)
    source = SimpleNamespace(identity=archive.source.identity, uri="elsewhere")  # By its `archive.id`.
    with patch.object(LabelledArchive, "open", return_value=SimpleNamespace(source=source, run=archive.run)):
        assert other_run("there", archive) is archive.run


def test_pictures_that_storage_did_not_send_are_asked_for_again(run: WrittenRun) -> None:
    session = open_session(run)
    (image,) = session.index.least_certain(1)
    with patch.object(LabelledArchive, "read", side_effect=StorageError("the server is overloaded")):
        client = browser(session)
        assert client.get(f"/picture/{session.index.name}/{image.id}").status_code == 503
        page = client.get("/screen?kind=least").text
        assert client.post("/decide", json=decision(page)).status_code == 503
    assert session.archive.ledger.batches() == []
    assert client.get(f"/picture/{session.index.name}/{image.id}").status_code == 200
    assert client.post("/decide", json=decision(page)).json() == {"written": 12}


@pytest.mark.s3
def test_labels_of_an_output_on_s3_are_written_and_read_back(run: WrittenRun, bucket: Bucket) -> None:
    url = bucket.upload(run.folder / "output", "review")
    index = PredictionIndex(index_path(run))

    def opened(by: str) -> ReviewSession:
        return ReviewSession(LabelledArchive.open(f"{url}/{RUN}", bucket.storage), index, by=by, size=6, planted=0.0)

    client = browser(opened("ann"))
    for _ in range(2):
        sent = decision(client.get("/screen?kind=class&name=amber").text)
        assert client.post("/decide", json=sent).json() == {"written": len(sent["answers"])}
    assert client.post("/decide", json=sent).json() == {"written": 0}
    progress = opened("ann").progress()
    assert progress.labelled == 10
    assert progress.last is not None
    assert browser(opened("ann")).post("/undo", json={"batch": progress.last.id}).json() == {"undone": 4}
    assert opened("bob").progress().labelled == 0
    assert opened("ann").progress().labelled == 6
    copies = [path for path in bucket.store("review/labels").list("") if "images" in path]
    assert len(copies) == 10
