"""Reading from S3: requests for objects, containers, listings; beside s3fs, on a server with latency."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.object_server import BUCKET, PHOTOGRAPH, Content, object_server
from tests.bench.result import Gate, Result
from tests.bench.usage import run_python

CONTAINER_IMAGES = 500
ROW_GROUP = 250
FOLDER_SIZE = 500
OURS, S3FS, SHARDS = "ours", "s3fs", "shards"
FOLDER, CONTAINERS, LISTING = "photographs", ("tar", "zip", "parquet"), "listing"
NEAR_MS, FAR_MS = 30, 100
"""Milliseconds until a response begins."""
CASES = ((FOLDER, NEAR_MS), (FOLDER, FAR_MS), *((form, NEAR_MS) for form in CONTAINERS))
LISTED = 25
"""Objects that are listed for each that is read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement of one contender.

    Attributes:
        cpu_ms: CPU time of its process for each image (or listed object), in milliseconds.
        rate: images in a second.
    """

    cpu_ms: float
    rate: float


def run(*, images: int, repeat: int) -> Result:
    """Read and list in a process for each contender, in turns.

    Args:
        images: of each archive.
        repeat: rounds.
    """
    samples: Mapping[tuple[str, int, str], list[Sample]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, _credentials():
        _write_containers(Path(folder), images)
        for _ in range(repeat):
            for form, latency_ms in CASES:
                content = Content(None if form == FOLDER else Path(folder) / form, images if form == FOLDER else 0, 100)
                with object_server(content, latency_s=latency_ms / 1e3) as storage:
                    for way in (OURS, S3FS):
                        samples[form, latency_ms, way].append(_measure("object_reader", way, form, storage.endpoint))
            with object_server(Content(None, LISTED * images, FOLDER_SIZE), latency_s=NEAR_MS / 1e3) as storage:
                for way in (OURS, SHARDS, S3FS):
                    samples[LISTING, NEAR_MS, way].append(_measure("object_lister", way, FOLDER, storage.endpoint))
    return result({case: _median(found) for case, found in samples.items()}, images)


def result(measured: Mapping[tuple[str, int, str], Sample], images: int) -> Result:
    """Return the table and the gates."""
    rows = [
        {
            "archive": form,
            "latency, ms": float(latency_ms),
            "contender": way,
            "CPU ms each": sample.cpu_ms,
            "each per second": sample.rate,
            "CPU, s3fs to it": measured[form, latency_ms, S3FS].cpu_ms / sample.cpu_ms,
        }
        for (form, latency_ms, way), sample in measured.items()
    ]
    near, far = measured[FOLDER, NEAR_MS, OURS], measured[FOLDER, FAR_MS, OURS]
    gates = [
        Gate.at_most("CPU ms of an object of 68 KB", near.cpu_ms, 1),
        Gate.at_most("share of the CPU time of s3fs", near.cpu_ms / measured[FOLDER, NEAR_MS, S3FS].cpu_ms, 0.4),
        Gate.at_least("objects/s at 30 ms", near.rate, 1000),
        Gate.at_least("objects/s at 100 ms", far.rate, 400),
        *(Gate.at_least(f"images/s of a {form}", measured[form, NEAR_MS, OURS].rate, 2000) for form in CONTAINERS),
        Gate.at_most("CPU ms of a listed object", measured[LISTING, NEAR_MS, OURS].cpu_ms, 0.03),
    ]
    return Result("reading", f"{images} images on S3, in one process that uses nothing else", rows, gates)


def _measure(contender: str, way: str, folder: str, endpoint: str | None) -> Sample:
    uri = f"s3://{BUCKET}/{folder}"
    measured = json.loads(run_python(f"tests.bench.contenders.{contender}", way, uri, str(endpoint)).output)
    return Sample(1e3 * measured["cpu_s"] / measured["images"], measured["images"] / measured["wall_s"])


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(median(sample.cpu_ms for sample in samples), median(sample.rate for sample in samples))


@contextmanager
def _credentials():
    """Set credentials, which the server does not check, so that requests are signed."""
    added = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    before = dict(os.environ)
    os.environ.update(added)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_containers(folder: Path, images: int) -> None:
    """Write the same images as tars, zips and tables, each below a folder of its name."""
    for start in range(0, images, CONTAINER_IMAGES):
        names = [f"{number:07}.jpg" for number in range(start, min(images, start + CONTAINER_IMAGES))]
        paths = {form: folder / form / form / f"{start:07}.{form}" for form in CONTAINERS}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(paths["tar"], "w") as tar:
            for name in names:
                header = tarfile.TarInfo(name)
                header.size = len(PHOTOGRAPH)
                tar.addfile(header, io.BytesIO(PHOTOGRAPH))
        with zipfile.ZipFile(paths["zip"], "w") as members:
            for name in names:
                members.writestr(name, PHOTOGRAPH)
        table = pa.table({"key": names, "image": [PHOTOGRAPH] * len(names)})
        options = {"row_group_size": ROW_GROUP, "compression": "none", "use_dictionary": False}
        pq.write_table(table, paths["parquet"], **options)
