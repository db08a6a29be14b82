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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
AHEAD = timedelta(days=1)
"""How far the time of an entry may be ahead of the clock."""
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


def spent_by(now: str, references: Sequence[DriftReference], nights: Sequence[DriftNight]) -> tuple[list[Spent], float]:
    """Return what nights spent, and the time now, in years of 365 days since the first entry.

    A night more than `AHEAD` later than now was written by a clock that was wrong: it spent its level, but no time
    passed until then.
    """
    first = min([each.time for each in references] + [night.time for night in nights])
    latest = _moment(now) + AHEAD
    spent, reached = list[Spent](), 0.0
    for night in nights:
        if _moment(night.time) <= latest:
            reached = max(reached, _years_between(first, night.time))
        spent.append(Spent(reached, night.level))
    return spent, _years_between(first, now)


def _years_between(earlier: str, later: str) -> float:
    return (_moment(later) - _moment(earlier)).total_seconds() / (365.0 * 86_400.0)


def _moment(time: str) -> datetime:
    return datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)


def written(time: datetime) -> str:
    """Return a time as entries have it. Numbers order entries, times only measure: a clock may be set back."""
    return time.astimezone(UTC).strftime(TIME_FORMAT)


Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
