"""A run with features, complete or not, and its parts as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster import Storage, Store
from cluster.records import Source
from cluster.records.reading import ordered_map
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.job_file.sections import Job
from ray_jobs.output.feature_parts import READERS, FeatureRows, view_features, view_table
from ray_jobs.output.layout import present_parts, shard_of
from ray_jobs.output.predictions import PredictionOrigin
from ray_jobs.output.runs import Run, find_runs, no_output, open_output, open_run, stored_job

T = TypeVar("T")
COLUMNS = ("image", "status", "score", "top_labels")
"""Of the predictions that are read."""


@dataclass(frozen=True)
class EmbeddedRun:
    """A run whose archive has features, at least in part.

    Attributes:
        run: a classification.
        job: its job file.
    """

    run: Run
    job: Job

    @classmethod
    def open(cls, place: str, storage: Storage = DEFAULT_STORAGE, *, job: str | None = None) -> EmbeddedRun:
        """Open a run.

        Args:
            place: folder of a run, or an output: then its newest complete run, or the only one that was begun.
            storage: how S3 is reached.
            job: of an output with several jobs, the name of the one that is meant.

        Raises:
            JobError: there is no such run, there are several, or it has no features.
            StorageError: storage does not respond.
        """
        run = _find_run(place, storage, job)
        if run.kind != "classification":
            raise JobError([f"{run.url} is an evaluation; expected a run of fewshot classify"])
        found = cls(run, stored_job(run.store, run.folder))
        if not found.features:
            raise JobError(
                [f"{run.url} has no features: they were removed, or the job embedded nothing. Run it again."]
            )
        return found

    @property
    def store(self) -> Store:
        """The output."""
        return self.run.store

    @cached_property
    def source(self) -> Source:
        """The archive, opened.

        Raises:
            JobError: the job file names no archive.
            SourceError: the archive is not where it was.
        """
        if self.job.archive is None:
            raise JobError([f"the job file of {self.run.url} names no archive"])
        return open_archive(self.job.archive, self.store.storage)

    def image_url(self, image: str, source: str) -> str:
        """Return where an image lies, see `PredictionOrigin.image_url`. Raises as `source`."""
        return PredictionOrigin(archive=self.source.uri, archive_kind=self.source.kind).image_url(image, source)

    @cached_property
    def features(self) -> list[str]:
        """Parts of features that are there, as paths in the output, in the archive's order."""
        return present_parts(self.store, self.run.plan.features)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know: whether features of the run are missing, so that their images are not looked at."""
        missing, planned = len(self.run.plan.features) - len(self.features), len(self.run.plan.features)
        if not missing:
            return ()
        why = "they were removed" if self.run.metrics is not None else "the run is not complete"
        return (f"features of {missing} of {planned} shards are not there, since {why}: their images are left out",)

    @cached_property
    def predictions(self) -> dict[str, str]:
        """By fingerprint of the shard, the parts of predictions that are there."""
        return {shard_of(part): part for part in present_parts(self.store, self.run.plan.predictions)}

    def parts(self, use: Callable[[str, FeatureRows], T]) -> Iterator[T]:
        """Read the parts of features once, some at a time, and yield what is made of each, in the archive's order.

        Args:
            use: takes a shard's fingerprint and its rows; runs in several threads.

        Raises:
            JobError: a part is damaged.
            StorageError: storage does not respond.
        """
        return self.map_parts(lambda part: use(shard_of(part), view_features(self.store, part)))

    def map_parts(self, use: Callable[[str], T]) -> Iterator[T]:
        """Yield what is made of each part of features, in the archive's order.

        Args:
            use: takes the path of a part; runs in several threads.
        """
        return ordered_map(use, self.features, READERS)

    def predicted(self, shard: str) -> pa.Table | None:
        """Read `COLUMNS` of a shard's predictions; None if there are none.

        Raises:
            JobError: they are damaged.
        """
        part = self.predictions.get(shard)
        return None if part is None else view_table(self.store, part, columns=list(COLUMNS))


def unit_rows(rows: FeatureRows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the positions of the images of a part that have features, and these [r, D] float32, unit rows.

    A row of zeros has no direction, and is left out.
    """
    features = rows.views[:, 0]
    lengths = np.linalg.norm(features, axis=1)
    read = np.flatnonzero(np.array([error is None for error in rows.errors], bool) & (lengths > 0.0))
    unit: NDArray[np.float32] = features[read] / lengths[read, None]
    return read, unit


def _find_run(place: str, storage: Storage, job: str | None) -> Run:
    """Return the run that is named, the newest complete run, or the only one that was begun."""
    try:
        return open_run(place, job=job, kind="classification", storage=storage)
    except JobError as error:
        store = open_output(place, storage)
        runs = [run for run in find_runs(store) if isinstance(run, Run) and run.kind == "classification"]
        if any(run.is_complete for run in runs):
            raise
        if not runs:
            raise no_output(store) from error
    if len(runs) > 1:
        urls = "; ".join(run.url for run in runs)
        raise JobError([f"no run of {store.root} is complete, and {len(runs)} were begun. Name one: {urls}"])
    return runs[0]
