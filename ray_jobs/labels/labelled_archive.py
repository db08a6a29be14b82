"""The archive of a run, for those who label it: who predicted what, and the images themselves, by their keys."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

from cluster import Storage, Store
from cluster.records import Selection, Shard, Source, archive_folder, pick
from cluster.storage.settings import DEFAULT_STORAGE
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.job_file.sections import ArchiveSection, Job
from ray_jobs.labels.label_event import ImageId, Predicted
from ray_jobs.labels.label_ledger import LabelLedger, ledger_of_run
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.feature_parts import view_table
from ray_jobs.output.layout import Spot, shard_of
from ray_jobs.output.predictions import original_name
from ray_jobs.output.runs import Run, open_run, stored_job

CHANGED = "the archive has changed since the run"
_COLUMNS = ["image", "source", "top_labels", "score"]


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """An image with what a run predicted.

    Attributes:
        image: its key.
        source: the object that holds it; "" where it is an object itself.
        spot: where its record lies.
        predicted: by the run.
    """

    image: str
    source: str
    spot: Spot
    predicted: Predicted


@dataclass(frozen=True)
class LabelledArchive:
    """The archive of a run.

    Attributes:
        run: a run of `classify`.
        job: its job file.
        source: the archive, opened.
    """

    run: Run
    job: Job
    source: Source

    @classmethod
    def open(cls, url: str, storage: Storage = DEFAULT_STORAGE, *, job: str | None = None) -> LabelledArchive:
        """Open the archive that a run labels.

        Args:
            url: folder of the run, or an output: then its newest complete run.
            storage: how S3 is reached.
            job: of an output with several jobs, the name of the one that is meant.

        Raises:
            JobError: there is no such run, or its job file is damaged.
            ClusterError: the archive is not where it was.
        """
        run = open_run(url, job=job, kind="classification", storage=storage)
        stored = stored_job(run.store, run.folder)
        return cls(run, stored, open_archive(_archive_of(stored, run), storage))

    @property
    def store(self) -> Store:
        """The output."""
        return self.run.store

    @cached_property
    def ledger(self) -> LabelLedger:
        """The ledger of the run, see `ledger_of_run`."""
        return ledger_of_run(self.job, self.store)

    @cached_property
    def _shards(self) -> _ListedShards:
        return _ListedShards(self.source)

    def image_id(self, image: str) -> ImageId:
        """Return what an image of this key is called in the ledger."""
        return ImageId(self.source.identity, image)

    @property
    def classifier(self) -> str:
        """Fingerprint of the classifier, for `Predicted`."""
        return posixpath.basename(self.run.plan.classifier or "")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the run. Raises JobError or StorageError if its classifier cannot be read."""
        return () if self.run.classifier is None else open_classifier(self.run.classifier, self.store.storage).classes

    def find(self, images: Collection[str]) -> dict[str, PredictedImage]:
        """Find images in the predictions, which are read as a stream; keys that are not there are missing.

        Raises:
            JobError: the run is complete, and parts of it are missing.
            StorageError: storage does not respond.
        """
        wanted, found = pa.array(sorted(set(images)), pa.string()), dict[str, PredictedImage]()
        for part in self.run.prediction_parts() if len(wanted) else ():
            table = view_table(self.store, part, columns=_COLUMNS)
            rows = pc.indices_nonzero(pc.is_in(table["image"], value_set=wanted))
            for index, row in zip(rows.to_pylist(), table.take(rows).to_pylist(), strict=True):
                label = row["top_labels"][0] if row["top_labels"] else None
                predicted = Predicted(label=label, score=row["score"], classifier=self.classifier, run=self.run.name)
                spot = Spot(shard_of(part), index)
                found.setdefault(row["image"], PredictedImage(row["image"], row["source"], spot, predicted))
            if len(found) == len(wanted):
                break
        return found

    def read(self, images: Sequence[PredictedImage]) -> Iterator[tuple[PredictedImage, bytes | str]]:
        """Read images; files of a folder directly, all others through a listing of the archive.

        A file whose name could be taken for another one, as a reference, is read through the listing, too.

        Returns:
            each image with its content, or the reason why it cannot be read; in no certain order.

        Raises:
            StorageError: storage does not respond.
        """
        is_direct = self.source.kind in ("folder", "glob")
        files = [image for image in images if is_direct and _has_one_reading(original_name(image.image))]
        yield from self._read_files(files)
        direct = {image.image for image in files}
        yield from self._read_members([image for image in images if image.image not in direct])

    def _read_files(self, images: Sequence[PredictedImage]) -> Iterator[tuple[PredictedImage, bytes | str]]:
        section = _archive_of(self.job, self.run)
        folder = archive_folder(section.uri, self.store.storage)
        selection = Selection(folder, max_bytes=section.max_image_bytes, storage=self.store.storage)
        records = selection.read([original_name(image.image) for image in images])
        for image, record in zip(images, records, strict=True):
            yield image, record.data if record.data is not None else str(record.error)

    def _read_members(self, images: Sequence[PredictedImage]) -> Iterator[tuple[PredictedImage, bytes | str]]:
        wanted: defaultdict[str, dict[int, PredictedImage]] = defaultdict(dict)
        for image in images:
            wanted[image.spot.shard][image.spot.row] = image
        for fingerprint, rows in wanted.items():
            if (shard := self._shards.find(fingerprint)) is not None:
                yield from _records(shard, rows)
            else:
                yield from ((image, CHANGED) for image in rows.values())


class _ListedShards:
    """The shards of an archive by fingerprint. It is listed once, as far as shards are asked for."""

    def __init__(self, source: Source) -> None:
        self._lock = Lock()
        self._rest = source.shards()
        self._found: dict[str, Shard] = {}

    def find(self, fingerprint: str) -> Shard | None:
        """Return a shard; None if the archive has none of this fingerprint."""
        with self._lock:
            while fingerprint not in self._found and (shard := next(self._rest, None)) is not None:
                self._found[shard.fingerprint] = shard
            return self._found.get(fingerprint)


def _records(shard: Shard, rows: Mapping[int, PredictedImage]) -> Iterator[tuple[PredictedImage, bytes | str]]:
    for index, record in zip(sorted(rows), pick(shard, sorted(rows)), strict=False):
        if record.key != rows[index].image:
            yield rows[index], CHANGED
        else:
            yield rows[index], record.data if record.data is not None else str(record.error)


def _has_one_reading(name: str) -> bool:
    """Return whether a name leads to this file alone: other names are read as escapes, URLs or Windows paths, too."""
    return name == name.strip() and not set(name) & set("%\\:") and "//" not in name and ".." not in name.split("/")


def _archive_of(job: Job, run: Run) -> ArchiveSection:
    if job.archive is None:
        raise JobError([f"the job file of {run.url} names no archive"])
    return job.archive
