"""Several writers at once: one production at any time, in whatever order their requests are made.

`FEWSHOT_INTERLEAVINGS=1000 pytest -n 0 --timeout 3600 tests/ray_jobs/registry/test_interleavings.py` tests so many on
each kind of storage, and `FEWSHOT_INTERLEAVINGS=500:1000` those of the seeds 500 to 999; without it, there are a few.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import Retry
from cluster.storage import store as store_module
from cluster.storage.s3 import S3Objects
from tests.ray_jobs.registry.interleaving import Interleaving, open_ordered
from tests.s3.bucket import Bucket

SEEDS = os.environ.get("FEWSHOT_INTERLEAVINGS")


def check_all(open_one: Callable[[int], Interleaving], *, is_ordered: bool, few: int = 20, at_once: int = 1) -> None:
    """Run interleavings, and check each of them."""

    def run(seed: int) -> tuple[int, int]:
        interleaving = open_one(seed)
        interleaving.run(seed, is_ordered=is_ordered)
        return interleaving.check(), interleaving.refused

    seeds = range(*map(int, (SEEDS or str(few)).split(":")))
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(run, seeds))
    assert sum(entries for entries, _ in done) >= 4 * len(seeds)
    if is_ordered:
        assert sum(refused for _, refused in done) >= len(seeds) // 2  # Writers did meet.


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "open_objects", open_ordered)


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local file system without hard links, so writers take turns by claims."""

    def link(_source: str, _target: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("cluster.storage.objects.os.link", link)


@pytest.fixture
def without_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 server that takes conditional writes for plain ones."""
    monkeypatch.setattr(S3Objects, "write_new", S3Objects.write)


@pytest.mark.usefixtures("ordered")
def test_there_is_one_production_on_a_disk(tmp_path: Path) -> None:
    check_all(lambda seed: Interleaving(str(tmp_path / str(seed))), is_ordered=True)


@pytest.mark.usefixtures("ordered", "without_links")
def test_there_is_one_production_on_a_disk_without_links(tmp_path: Path) -> None:
    check_all(lambda seed: Interleaving(str(tmp_path / str(seed))), is_ordered=True, few=8)


def test_there_is_one_production_on_a_disk_whoever_is_faster(tmp_path: Path) -> None:
    check_all(lambda seed: Interleaving(str(tmp_path / str(seed)), retry=Retry(), term_s=2.0), is_ordered=False, few=8)


@pytest.mark.s3
@pytest.mark.usefixtures("ordered")
def test_there_is_one_production_on_s3(bucket: Bucket) -> None:
    check_all(lambda seed: Interleaving(bucket.url(str(seed)), bucket.storage), is_ordered=True, few=6, at_once=4)


@pytest.mark.s3
@pytest.mark.usefixtures("ordered", "without_conditions")
def test_there_is_one_production_on_s3_without_conditional_writes(bucket: Bucket) -> None:
    check_all(lambda seed: Interleaving(bucket.url(str(seed)), bucket.storage), is_ordered=True, few=6, at_once=4)


@pytest.mark.s3
def test_there_is_one_production_on_s3_whoever_is_faster(bucket: Bucket) -> None:
    check_all(
        lambda seed: Interleaving(bucket.url(str(seed)), bucket.storage, retry=Retry(), term_s=2.0),
        is_ordered=False,
        at_once=4,
    )
