"""From the arguments of the command to a server: the run, its index, the first screen, and what came of it."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster import ClusterError, Storage
from ray_jobs.errors import JobError
from ray_jobs.labels.label_ledger import user_name
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.runs import Run
from ray_jobs.report.markup import plural
from ray_jobs.results.json_format import JsonValue
from ray_jobs.review.prediction_index import PredictionIndex, open_index
from ray_jobs.review.review_session import ReviewSession
from ray_jobs.review.screens import KINDS, ScreenAddress

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

EXTRA = ("starlette", "uvicorn")
"""Packages of the extra `review`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewResult(JsonValue):
    """What a review came to.

    Attributes:
        ledger: URL of the ledger.
        by: who gave the labels.
        labelled: images whose answer that counts is of this person, of earlier reviews too.
        planted: images that were shown to this person under a class that they are known not to be of.
        missed: how many of these were accepted.
    """

    ledger: str
    by: str
    labelled: int
    planted: int
    missed: int


def start_review(
    place: str,
    storage: Storage,
    reporter: Reporter,
    *,
    job: str | None = None,
    screen: str | None = None,
    against: str | None = None,
    by: str | None = None,
    size: int = 24,
    port: int | None = None,
    opens_browser: bool = False,
) -> ReviewResult:
    """Serve the review of a run until the process is interrupted.

    Args:
        place: URL of an output or of a run.
        storage: how S3 is reached.
        reporter: shows messages.
        job: of an output with several jobs, the name of the one that is meant.
        screen: name of the first screen; None for the list of all.
        against: URL of another run; None for none.
        by: who gives the labels; None for the user.
        size: images of a screen.
        port: None for the default.
        opens_browser: whether to open the page.

    Raises:
        JobError: packages are missing, there is no such run or screen, the other run is of another archive, or the port
            is taken.
        ClusterError: the archive or storage does not respond.
    """
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        raise JobError([f"fewshot review needs {', '.join(missing)}: pip install 'fewshot[review]'"])
    from ray_jobs.review.server import index_folder, serve

    with reporter.waiting("opening the run"):
        archive = LabelledArchive.open(place, storage, job=job)
        other = None if against is None else other_run(against, archive)
    with reporter.waiting("indexing the predictions, once a run"):
        path = open_index(archive.run, index_folder())
        other_path = None if other is None else open_index(other, index_folder())
    with closing(PredictionIndex(path)) as index:
        classes = classes_of(archive.run)
        session = ReviewSession(archive, index, by=by or user_name(), size=size, other=other_path, classes=classes)
        with reporter.waiting("reading the ledger"):
            session.refresh()
        start = None if screen is None else first_screen(session, screen)
        serve(session, say=reporter.say, port=port, start=start, opens_browser=opens_browser)
        session.images.close()
        progress = session.progress()
        labelled = plural(progress.labelled, "image is", "images are")
        reporter.say(f"{labelled} labelled by {session.by} in {archive.ledger.store.root}")
    return ReviewResult(
        ledger=archive.ledger.store.root,
        by=session.by,
        labelled=progress.labelled,
        planted=progress.missed.shown,
        missed=progress.missed.missed,
    )


def other_run(against: str, archive: LabelledArchive) -> Run:
    """Return a run to compare with.

    Args:
        against: its URL, or that of its output.
        archive: of the run that is reviewed.

    Raises:
        JobError: there is no such run, or it classified another archive.
        ClusterError: its archive is not where it was, or storage does not respond.
    """
    other = LabelledArchive.open(against, archive.store.storage)
    if other.source.identity != archive.source.identity:
        problem = f"--against {against}: that run classified {other.source.uri}, and this one {archive.source.uri}"
        raise JobError([f"{problem}; compare runs of one archive (two addresses of it need the same archive.id)"])
    return other.run


def classes_of(run: Run) -> tuple[str, ...]:
    """Return all classes of the classifier of a run; () if it is not there any more."""
    from ray_jobs.output.classifiers import open_classifier

    try:
        return () if run.classifier is None else open_classifier(run.classifier, run.store.storage).classes
    except (ClusterError, JobError):
        return ()


def first_screen(session: ReviewSession, name: str) -> ScreenAddress:
    """Return the screen of a name: a class, a list, or a kind of screen.

    Raises:
        JobError: there is none.
    """
    if name in session.classes:
        return ScreenAddress("class", name)
    if name in session.list_paths():
        return ScreenAddress("list", name)
    kinds = [kind for kind in KINDS if kind not in ("class", "list")]
    if name in kinds:
        return ScreenAddress(name)
    lists = [each if title == each else f"{each} ({title})" for each, title in session.list_titles().items()]
    raise JobError([f"no screen {name!r}; known: {', '.join([*kinds, *lists])}, and the predicted classes"])
