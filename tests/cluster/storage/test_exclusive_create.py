"""Exactly one of many writers creates an object, also on storage without conditional writes."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from cluster import Retry, Store
from cluster.storage.exclusive_create import STALE_CLAIM_S, create_by_claims
from cluster.storage.objects import Objects, RemoteObjects, open_objects
from tests.cluster.faulty import OrderlyFileSystem


class Overwriting(OrderlyFileSystem):
    """Treats a conditional write as a plain one, as some servers do, and is slow enough for races."""

    protocol = "overwriting"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        time.sleep(0.002)
        super().pipe_file(path, value)


fsspec.register_implementation("overwriting", Overwriting, clobber=True)


def forbid_links(monkeypatch):
    """Make hard links fail, as on file systems without them."""

    def link(source, target):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("cluster.storage.objects.os.link", link)


def objects_of(store: Store) -> Objects:
    return open_objects(store.root, store.storage, store.retry)


@pytest.fixture(params=["overwriting", "no links"])
def store(request, tmp_path, monkeypatch):
    if request.param == "no links":
        forbid_links(monkeypatch)
    return Store(str(tmp_path) if request.param == "no links" else f"overwriting://{uuid4().hex}/run")


def test_one_of_many_concurrent_writers_creates(store):
    start = threading.Barrier(6)

    def create(index):
        start.wait()
        return store.put_if_absent("lease/1", b"%d" % index)

    with ThreadPoolExecutor(6) as threads:
        won = list(threads.map(create, range(6)))
    assert sum(won) == 1
    assert store.get("lease/1") == b"%d" % won.index(True)
    assert list(store.list()) == ["lease/1"]


def test_a_stale_claim_of_a_dead_writer_is_removed(tmp_path):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    store = Store(str(tmp_path))
    store.put("a/claims-x/dead", b"")
    assert create_by_claims(objects_of(store), Retry(clock=lambda: now[0], sleep=sleep), "a/x", b"mine")
    assert now[0] > 30.0
    assert list(store.list()) == ["a/x"]


def test_claims_of_live_writers_are_not_removed(monkeypatch):
    """A claim removed while its writer lists the others would be invisible to later writers.

    Until the dead writer's claim is stale, the four writers run in step, and time passes only between two rounds.
    """
    write, delete, owners, removed, reused = RemoteObjects.write, RemoteObjects.delete, {}, [], []
    now = [0.0]

    def advance_time():
        now[0] += STALE_CLAIM_S / 3

    written, finished = threading.Barrier(4, timeout=60), threading.Barrier(4, advance_time, timeout=60)

    def write_together(self, path, data):
        if path in owners:  # It would seem to stand since its first use.
            reused.append(path)
        owners[path] = threading.get_ident()
        write(self, path, data)
        if now[0] <= STALE_CLAIM_S:
            written.wait()

    def watched_delete(self, path):
        if owners.get(path) != threading.get_ident():
            removed.append(path)
        delete(self, path)

    def sleep(seconds):
        if now[0] > STALE_CLAIM_S:
            time.sleep(seconds / 10)
        else:
            finished.wait()

    store, retry = Store(f"overwriting://{uuid4().hex}"), Retry(clock=lambda: now[0], sleep=sleep)
    store.put("a/claims-x/dead", b"")
    objects = objects_of(store)
    monkeypatch.setattr(RemoteObjects, "write", write_together)
    monkeypatch.setattr(RemoteObjects, "delete", watched_delete)
    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(lambda index: create_by_claims(objects, retry, "a/x", b"%d" % index), range(4)))
    assert sum(won) == 1
    assert reused == []
    assert set(removed) == {"a/claims-x/dead"}


def test_the_probe_for_exclusive_create_leaves_no_object(tmp_path):
    store = Store(str(tmp_path))
    assert store.put_if_absent("a", b"1")
    assert store.put_if_absent("b", b"1")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
