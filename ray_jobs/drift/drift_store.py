"""References and nights in storage, beside the journal of a registry.

    registry/<job>/drift/references/000001.json   written at promotion, only if the number is free
    registry/<job>/drift/nights/000001.json       a comparison, likewise
    registry/<job>/drift/nights/000001.html       its page, which can be made anew
    registry/<job>/drift/<digest>.parquet         samples and lists of contents, named after their bytes

Objects that an entry names are written before it. So a process that is killed leaves the whole entry or nothing, what
it wrote is found by the next one, and of two at once one writes an entry, and the other one reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cluster import Store
from fewshot.drift import Spent
from ray_jobs.drift.newcomers import DrawnSample, KnownContents
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import TIME_FORMAT
from ray_jobs.output.feature_parts import DAMAGE
from ray_jobs.output.layout import REGISTRY
from ray_jobs.results.drift_result import DriftNight, DriftReference

DRIFT, REFERENCES, NIGHTS = "drift", "references", "nights"
T = TypeVar("T", DriftReference, DriftNight)
C = TypeVar("C", DrawnSample, KnownContents)


@dataclass(frozen=True, slots=True)
class DriftStore:
    """What is stored about the drift of a job.

    Attributes:
        store: the output.
        job: name of the job.
    """

    store: Store
    job: str

    @property
    def folder(self) -> str:
        """Where it lies in the output."""
        return f"{REGISTRY}/{self.job}/{DRIFT}"

    def references(self) -> list[DriftReference]:
        """Return all references in order. Raises as `nights`."""
        return self._entries(REFERENCES, DriftReference)

    def nights(self) -> list[DriftNight]:
        """Return all nights in order.

        Raises:
            FormatError: an entry is damaged or from a newer version.
            StorageError: storage does not respond.
        """
        return self._entries(NIGHTS, DriftNight)

    def _entries(self, kind: str, document: type[T]) -> list[T]:
        paths = sorted(path for path in self.store.list(f"{self.folder}/{kind}") if path.endswith(".json"))
        return [document.from_json(self.store.get(path), where=self.store.url(path)) for path in paths]

    def append(self, entry: DriftReference | DriftNight) -> bool:
        """Write an entry; False if its number is taken."""
        kind = REFERENCES if isinstance(entry, DriftReference) else NIGHTS
        return self.store.put_if_absent(f"{self.folder}/{kind}/{entry.number:06d}.json", entry.to_bytes())

    def page(self, night: DriftNight) -> str:
        """Return the path of the page of a night."""
        return f"{self.folder}/{NIGHTS}/{night.number:06d}.html"

    def keep(self, content: DrawnSample | KnownContents) -> str:
        """Store an object under the digest of its bytes, and return its path."""
        data = content.to_bytes()
        path = f"{self.folder}/{hashlib.blake2b(data, digest_size=16).hexdigest()}.parquet"
        if not self.store.exists(path):
            self.store.put(path, data)
        return path

    def read(self, path: str, kind: type[C]) -> C:
        """Read an object that `keep` stored.

        Raises:
            JobError: it is gone or damaged.
        """
        advice = "Write a new reference with fewshot drift JOB.toml --accept"
        try:
            return kind.from_bytes(self.store.get(path))
        except FileNotFoundError as error:
            raise JobError([f"{self.store.url(path)} is gone. {advice}."]) from error
        except DAMAGE as error:
            raise JobError([f"{self.store.url(path)} is damaged ({error}). {advice}."]) from error


def spent_of(nights: list[DriftNight], since: str) -> list[Spent]:
    """Return what nights spent; `since` is the time of the first reference."""
    return [Spent(years_between(since, night.time), night.level) for night in nights]


def years_between(earlier: str, later: str) -> float:
    """Return the time between two entries, in years of 365 days."""
    return (_moment(later) - _moment(earlier)).total_seconds() / (365.0 * 86_400.0)


def _moment(time: str) -> datetime:
    return datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)


Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
