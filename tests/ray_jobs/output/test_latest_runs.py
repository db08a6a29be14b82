"""latest.json names the newest complete run of each job, whoever finishes at the same time."""

from __future__ import annotations

import json
import multiprocessing
import threading

import pytest

from cluster import Lease, LeaseLostError, Store, acquire_lease
from fewshot.digests import check_json
from ray_jobs.output import latest_runs
from ray_jobs.output.latest_runs import LATEST, LATEST_LEASE, LatestRuns, read_latest, record_latest
from ray_jobs.results import FormatError
from tests.ray_jobs.place import written


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_the_newest_run_of_each_job_and_kind_is_named(store):
    assert read_latest(store) is None
    record_latest(store, "b", "classification", "runs/b-1")
    record_latest(store, "a", "classification", "runs/a-1")
    record_latest(store, "a", "evaluation", "runs/a-2")
    record_latest(store, "b", "classification", "runs/b-2")
    found = check_json(json.loads(store.get(LATEST)))
    assert found == {
        "format_version": 2,
        "jobs": {
            "a": {"classification": "runs/a-1", "evaluation": "runs/a-2"},
            "b": {"classification": "runs/b-2"},
        },
    }
    assert read_latest(store).to_json() == found
    assert list(store.list(LATEST_LEASE)) == []


def test_what_is_named_already_is_not_written_again(store, tmp_path):
    record_latest(store, "a", "classification", "runs/a-1")
    before = written(tmp_path)
    record_latest(store, "a", "classification", "runs/a-1")
    assert written(tmp_path) == before


def record_some(root, name):
    for number in range(5):
        record_latest(Store(root), f"{name}-{number}", "classification", f"runs/{name}-{number}")


def test_jobs_that_finish_at_once_lose_nothing(tmp_path):
    """Threads and processes: two writers in turn between a read and a write would lose one."""
    names = [f"job{i}" for i in range(3)]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=record_some, args=(str(tmp_path), name)) for name in names[:1]]
    workers += [threading.Thread(target=record_some, args=(str(tmp_path), name)) for name in names[1:]]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {
        f"{name}-{number}": {"classification": f"runs/{name}-{number}"} for name in names for number in range(5)
    }
    assert read_latest(Store(str(tmp_path))).jobs == expected


def test_a_file_of_a_newer_version_is_left_alone(store, caplog):
    newer = b'{"format_version": 3, "whatever": 1}'
    store.put(LATEST, newer)
    record_latest(store, "a", "classification", "runs/a-1")
    assert store.get(LATEST) == newer
    assert "latest run not noted" in caplog.text
    with pytest.raises(FormatError, match=r"latest\.json has format 3; this version of fewshot reads format 2"):
        read_latest(store)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b'{"format_version": 2, "jobs": {"a": 1}}', b'{"format_version": 3, "jobs": {}, "digest": ""}'],
)
def test_a_damaged_file_is_written_anew(store, damaged):
    store.put(LATEST, damaged)
    record_latest(store, "a", "classification", "runs/a-1")
    assert read_latest(store) == LatestRuns(jobs={"a": {"classification": "runs/a-1"}})


def test_nothing_is_written_once_the_lease_is_lost(store, monkeypatch):
    def stolen(_):
        raise LeaseLostError("taken over")

    record_latest(store, "a", "classification", "runs/a-1")
    before = store.get(LATEST)
    monkeypatch.setattr(Lease, "check", stolen)
    with pytest.raises(LeaseLostError):
        record_latest(store, "a", "classification", "runs/a-2")
    assert store.get(LATEST) == before


def test_a_lease_that_is_not_given_back_fails_no_job(store, caplog, monkeypatch):
    monkeypatch.setattr(latest_runs, "ATTEMPTS", 1)
    with acquire_lease(store, LATEST_LEASE, term_s=0.3):
        record_latest(store, "a", "classification", "runs/a-1")
    assert read_latest(store) is None
    assert "latest run not noted, run again to note it" in caplog.text
