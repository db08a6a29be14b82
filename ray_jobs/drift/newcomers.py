"""Contents of an archive, and which of them came since: told by hashes of features, of which only low ones are kept.

The same image has the same features, whatever it is called, so a hash of their bytes stands for the content: a moved
or renamed file did not come anew, and copies count once. Of an archive of any size the `KNOWN` lowest hashes are kept,
with the highest of them as a bound. A content with a hash up to the bound was there if, and only if, it is among them;
others are not looked at. So the contents that are seen to be new are a random sample of those that are new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fewshot.drift import SAMPLE
from ray_jobs.output.feature_parts import read_parquet, write_parquet

KNOWN = 1 << 18
"""Contents that are kept, 2 MiB of hashes."""
HIGHEST = 2**64 - 1
Hashes = NDArray[np.uint64]


def content_hashes(features: NDArray[np.float32]) -> Hashes:
    """Return [n] hashes of the bytes of rows [n, D]."""
    rows = np.ascontiguousarray(features, np.dtype("<f4"))
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8, person=b"drift").digest() for row in rows)
    return np.frombuffer(b"".join(digests), np.dtype("<u8")).astype(np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class KnownContents:
    """Contents with the nights in which they came; 0 for those of the reference.

    Attributes:
        hashes: [n] in ascending order, each once.
        nights: [n] int32.
        bound: contents with higher hashes are not looked at.
    """

    hashes: Hashes
    nights: NDArray[np.int32]
    bound: int = HIGHEST

    def __len__(self) -> int:
        """Return the number of contents."""
        return len(self.hashes)

    @classmethod
    def lowest(cls, nights: Mapping[int, int], bound: int = HIGHEST, *, most: int = KNOWN) -> KnownContents:
        """Keep the lowest hashes.

        Args:
            nights: hash -> night in which it came.
            bound: that holds already.
            most: number of hashes to keep; the bound falls if there are more.
        """
        hashes = sorted(nights)
        if len(hashes) > most:
            hashes, bound = hashes[:most], min(bound, hashes[most - 1])
        came = [nights[each] for each in hashes]
        return cls(np.array(hashes, np.uint64), np.array(came, np.int32), bound)

    def nights_of(self, hashes: Hashes, otherwise: int) -> NDArray[np.int32]:
        """Return [m] the nights in which contents [m] came, `otherwise` for those that are not known."""
        if not len(self.hashes):
            return np.full(len(hashes), otherwise, np.int32)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashes, self.nights[place], otherwise).astype(np.int32)

    def were_there(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Return [m] whether contents [m] are known to be in the reference; False above the bound."""
        known: NDArray[np.bool_] = (self.nights_of(hashes, 1) == 0) & (hashes <= np.uint64(self.bound))
        return known

    def to_bytes(self) -> bytes:
        """Return them as a Parquet object; equal contents give equal bytes."""
        columns = {"hash": pa.array(self.hashes, pa.uint64()), "night": pa.array(self.nights, pa.int32())}
        return write_parquet(pa.table(columns).replace_schema_metadata({"bound": str(self.bound)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> KnownContents:
        """Read what `to_bytes` returned.

        Raises:
            DigestError: it is damaged.
            pa.ArrowException, KeyError, OSError, ValueError: it is something else.
        """
        table = read_parquet(data, columns=["hash", "night"])
        bound = int((table.schema.metadata or {})[b"bound"])
        return cls(table["hash"].to_numpy(), table["night"].to_numpy(), bound)


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """An image of a sample: where it lies, and what was predicted.

    Attributes:
        image, source, shard, row, label, status: see `ray_jobs.results.drift_result.UnlikeImage`.
        learned: whether the classifier that predicted learned from it.
    """

    image: str
    source: str
    shard: str
    row: int
    label: str | None
    status: str | None
    learned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DrawnSample:
    """Images of a sample.

    Attributes:
        images: n of them.
        features: [n, D] float32, unit rows.
        hashes: [n] of their contents.
        nights: [n] int32, in which they came.
    """

    images: tuple[DrawnImage, ...]
    features: NDArray[np.float32]
    hashes: Hashes
    nights: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def to_bytes(self) -> bytes:
        """Return it as a Parquet object; equal samples give equal bytes. The nights are left out."""
        n, D = self.features.shape
        columns = {name: pa.array([getattr(each, name) for each in self.images], _TYPES[name]) for name in _TYPES}
        columns["content"] = pa.array(self.hashes, pa.uint64())
        flat = pa.array(np.ascontiguousarray(self.features).reshape(-1), pa.float32())
        columns["features"] = (
            pa.FixedSizeListArray.from_arrays(flat, D) if n else pa.array([], pa.list_(pa.float32(), D))
        )
        return write_parquet(pa.table(columns), plain=("features",))

    @classmethod
    def from_bytes(cls, data: bytes) -> DrawnSample:
        """Read what `to_bytes` returned; raises as `KnownContents.from_bytes`."""
        table = read_parquet(data)
        rows = table.select([*_TYPES]).to_pylist()
        column = table["features"].combine_chunks()
        features = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), column.type.list_size)
        hashes, nights = table["content"].to_numpy(), np.zeros(len(rows), np.int32)
        return cls(tuple(DrawnImage(**row) for row in rows), features, hashes, nights)


_TYPES = {
    "image": pa.string(),
    "source": pa.string(),
    "shard": pa.string(),
    "row": pa.int64(),
    "label": pa.string(),
    "status": pa.string(),
    "learned": pa.bool_(),
}


@dataclass(slots=True)
class Newcomers:
    """Contents of a run that are not in a reference, gathered part by part, and a sample of the newest.

    Memory does not grow with the run: of more contents than `most`, those with the lowest hashes are kept.

    Attributes:
        before: contents of the reference (night 0) and of the nights since.
        night: number of this night.
        size: images of the sample, at most.
        most: contents that are kept in the end; four times as many, and a part, are held meanwhile.
    """

    before: KnownContents
    night: int
    size: int = SAMPLE
    most: int = KNOWN
    _bound: int = field(init=False)
    _seen: dict[int, int] = field(default_factory=dict, init=False)
    _kept: list[tuple[int, int, DrawnImage, NDArray[np.float32]]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Look at what is known to be there or not."""
        self._bound = self.before.bound

    def offer(self, images: list[DrawnImage], features: NDArray[np.float32], hashes: Hashes) -> None:
        """Take images [n] with features [n, D] and hashes [n]: those that came since, each content once."""
        nights = self.before.nights_of(hashes, self.night)
        for position in np.flatnonzero((nights > 0) & (hashes <= np.uint64(self._bound))).tolist():
            content, night = int(hashes[position]), int(nights[position])
            if content not in self._seen:
                self._seen[content] = night
                self._kept.append((-night, content, images[position], features[position].copy()))
        if len(self._seen) > 4 * self.most:
            self._lower_bound()
        if len(self._kept) > 4 * self.size:
            self._prune(2 * self.size)  # Twice the sample: a bound that falls takes some.

    def _lower_bound(self) -> None:
        """Forget all contents but those with the lowest hashes."""
        if len(self._seen) <= self.most:
            return
        self._bound = int(np.partition(np.fromiter(self._seen, np.uint64), self.most - 1)[self.most - 1])
        self._seen = {content: night for content, night in self._seen.items() if content <= self._bound}
        self._kept = [each for each in self._kept if each[1] <= self._bound]

    def _prune(self, size: int) -> None:
        self._kept.sort(key=lambda each: each[:2])
        del self._kept[size:]

    def sample(self) -> DrawnSample:
        """Return the newest images first, of one night those with the lowest hashes."""
        self._lower_bound()
        self._prune(self.size)
        features = np.stack([row for *_, row in self._kept]) if self._kept else np.zeros((0, 1), np.float32)
        hashes = np.array([content for _, content, *_ in self._kept], np.uint64)
        nights = np.array([-night for night, *_ in self._kept], np.int32)
        return DrawnSample(tuple(image for _, _, image, _ in self._kept), features, hashes, nights)

    def seen(self) -> KnownContents:
        """Return the contents that came since the reference and are there."""
        self._lower_bound()
        return KnownContents.lowest(self._seen, self._bound)

    @property
    def came(self) -> int:
        """Number of contents that came since the night before, of those that are kept."""
        self._lower_bound()
        return sum(night == self.night for night in self._seen.values())


def joined(reference: KnownContents, since: KnownContents | None) -> KnownContents:
    """Return the contents of a reference, and those that came since by the night before, if there was one."""
    if since is None:
        return reference
    hashes = np.concatenate([reference.hashes, since.hashes])
    nights = np.concatenate([reference.nights, since.nights])
    order = np.argsort(hashes, kind="stable")
    return KnownContents(hashes[order], nights[order], min(reference.bound, since.bound))
