"""One writer of many creates an object, also on storage that would let them overwrite each other."""

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
    """Takes a conditional write for a plain one, as some servers do, and is slow enough for races."""

    protocol = "overwriting"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        time.sleep(0.002)
        super().pipe_file(path, value)


fsspec.register_implementation("overwriting", Overwriting, clobber=True)


def no_links(monkeypatch):
    """As on file systems without hard links."""

    def link(source, target):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("cluster.storage.objects.os.link", link)


def objects_of(store: Store) -> Objects:
    return open_objects(store.root, store.storage, store.retry)


@pytest.fixture(params=["overwriting", "no links"])
def store(request, tmp_path, monkeypatch):
    if request.param == "no links":
        no_links(monkeypatch)
    return Store(str(tmp_path) if request.param == "no links" else f"overwriting://{uuid4().hex}/run")


def test_of_many_writers_at_once_one_creates(store):
    start = threading.Barrier(6)

    def create(index):
        start.wait()
        return store.put_if_absent("lease/1", b"%d" % index)

    with ThreadPoolExecutor(6) as threads:
        won = list(threads.map(create, range(6)))
    assert sum(won) == 1
    assert store.get("lease/1") == b"%d" % won.index(True)
    assert list(store.list()) == ["lease/1"]


def test_the_claim_of_a_dead_writer_is_removed_when_it_has_stood_for_long(tmp_path):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    store = Store(str(tmp_path))
    store.put("a/claims-x/dead", b"")
    assert create_by_claims(objects_of(store), Retry(clock=lambda: now[0], sleep=sleep), "a/x", b"mine")
    assert now[0] > 30.0
    assert list(store.list()) == ["a/x"]


def test_while_writers_wait_for_a_dead_one_they_leave_the_claims_of_the_living_alone(monkeypatch):
    """A claim that is removed while its writer lists the others is one that nobody comes to see.

    Until the dead one's has stood for long, the four go in step, and time passes only between two of their rounds.
    """
    write, delete, owners, removed, again = RemoteObjects.write, RemoteObjects.delete, {}, [], []
    now = [0.0]

    def time_passes():
        now[0] += STALE_CLAIM_S / 3

    written, through = threading.Barrier(4, timeout=60), threading.Barrier(4, time_passes, timeout=60)

    def write_together(self, path, data):
        if path in owners:  # It would seem to have stood since the first time.
            again.append(path)
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
            through.wait()

    store, retry = Store(f"overwriting://{uuid4().hex}"), Retry(clock=lambda: now[0], sleep=sleep)
    store.put("a/claims-x/dead", b"")
    objects = objects_of(store)
    monkeypatch.setattr(RemoteObjects, "write", write_together)
    monkeypatch.setattr(RemoteObjects, "delete", watched_delete)
    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(lambda index: create_by_claims(objects, retry, "a/x", b"%d" % index), range(4)))
    assert sum(won) == 1
    assert again == []
    assert set(removed) == {"a/claims-x/dead"}


def test_a_store_that_creates_exclusively_is_asked_once_and_keeps_nothing_of_it(tmp_path):
    store = Store(str(tmp_path))
    assert store.put_if_absent("a", b"1")
    assert store.put_if_absent("b", b"1")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
