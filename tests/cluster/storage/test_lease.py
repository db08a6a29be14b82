"""One of many processes gets a lease, dead owners lose theirs, and an owner that lost it gets an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from cluster import LeaseHeldError, LeaseLostError, Retry, Store, acquire_lease, lease_state
from cluster.storage.lease import LeaseRecord
from cluster.storage.lease import _clock_s as lease_clock_s
from cluster.storage.lease_owner import Owner
from tests.cluster import faulty  # noqa: F401 -- registers `orderly://`

TERM_S = 0.6
"""So short that a busy machine may renew too late, which matters only to watching processes: see `patient`."""
SLEEPER = """
import sys, time
from cluster import Store, acquire_lease
with acquire_lease(Store(sys.argv[1]), "lease", term_s=float(sys.argv[2])) as lease:
    print("acquired", flush=True)
    sys.stdin.readline()
    lease.check()
"""


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path) if request.param == "local" else f"orderly://{uuid4().hex}/run")


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process with the lease, which it keeps until it reads a line."""
    started = []

    def start(term_s=TERM_S):
        command = [sys.executable, "-c", SLEEPER, str(tmp_path), str(term_s)]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        assert child.stdout.readline() == "acquired\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def patient(store):
    """Return the store of a process that watches for a hundred terms, with the usual number of looks."""
    slow = Retry(clock=lambda: time.monotonic() / 100, sleep=lambda _: time.sleep(0.01))
    return replace(store, retry=slow)


def suspend(child):
    """Suspend a process: all of its threads stand still when this returns."""
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)


def foreign_lease(term_s=TERM_S, **changes):
    """Return the lease of an owner on another machine, whose process cannot be examined here."""
    values = Owner.this_process().to_json() | {"machine": "another", "host": "elsewhere", "pid": 7} | changes
    return LeaseRecord(Owner.from_json(values), term_s).to_bytes()


def test_a_released_lease_leaves_no_object(store):
    for _ in range(3):
        with acquire_lease(store, "lease") as lease:
            lease.check()
            assert list(store.list()) == ["lease/1"]
        assert list(store.list()) == []


def test_a_live_owner_is_named_and_nothing_is_written(store):
    waited_for = []
    with acquire_lease(store, "lease", term_s=TERM_S) as lease:
        message = rf"is being written by process {os.getpid()} on .* since 20.*; nothing was done"
        with (
            pytest.raises(LeaseHeldError, match=message),
            acquire_lease(patient(store), "lease", on_wait=waited_for.append),
        ):
            pass
        lease.check()
        assert list(store.list()) == ["lease/1"]
    assert [str(os.getpid()) in owner for owner in waited_for] == [True]


def test_the_lease_owner_is_found_without_waiting(store):
    assert lease_state(store, "lease") is None
    store.put("lease/3", foreign_lease())
    owner = lease_state(store, "lease").owner
    assert (owner.host, owner.pid) == ("elsewhere", 7)
    with acquire_lease(store, "mine") as lease:
        assert lease_state(store, "mine").owner.pid == os.getpid()
        lease.check()
    assert lease_state(store, "mine") is None


def test_one_of_many_concurrent_processes_gets_the_lease(store):
    done = threading.Event()

    def attempt(index):
        try:
            with acquire_lease(patient(store), "lease", term_s=TERM_S):
                done.wait(60)
                return "acquired"
        except LeaseHeldError:
            done.set()
            return "refused"

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(attempt, range(6)))
    assert "refused" in results
    assert list(store.list()) == []


def test_a_silent_owner_is_watched_for_its_own_term(store):
    store.put("lease/4", foreign_lease(term_s=0.3))
    before = time.monotonic()
    with acquire_lease(store, "lease", term_s=60.0) as lease:
        assert time.monotonic() - before >= 0.3
        lease.check()
        assert list(store.list()) == ["lease/5"]


def test_an_owner_that_lost_its_lease_leaves_the_new_one_alone(store):
    with acquire_lease(store, "lease", term_s=TERM_S) as lease:
        store.put("lease/2", foreign_lease())
        time.sleep(TERM_S)
        with pytest.raises(LeaseLostError, match=r"taken over by process 7 on elsewhere .*nothing more is written"):
            lease.check()
    assert json.loads(store.get("lease/2"))["host"] == "elsewhere"


@pytest.mark.parametrize("left", [[], ["lease/1"]])
def test_an_owner_whose_object_is_gone_or_foreign_has_lost(store, monkeypatch, left):
    """The clock jumps by an hour, so that no renewal between the change and the check can undo the change."""
    with acquire_lease(store, "lease", term_s=600) as lease:
        store.delete("lease/1")
        for path in left:
            store.put(path, foreign_lease())
        real = lease_clock_s()
        monkeypatch.setattr("cluster.storage.lease._clock_s", lambda: real + 3600)
        with pytest.raises(LeaseLostError):
            lease.check()
    assert list(store.list()) == left


def test_an_epoch_that_is_over_cannot_be_acquired(store, monkeypatch):
    """Between its listing and its write, two others have acquired the lease; one of them still has it."""
    listings = iter([[], ["lease/1", "lease/2"]])
    store.put("lease/2", foreign_lease(term_s=600))
    real = Store.list

    def listed(self, prefix=""):
        return iter(next(listings, None) or real(self, prefix))

    monkeypatch.setattr(Store, "list", listed)
    waiting = RuntimeError("waits for the present owner")

    def on_wait(owner):
        raise waiting

    with pytest.raises(RuntimeError, match="waits"), acquire_lease(store, "lease", on_wait=on_wait):
        pass
    monkeypatch.undo()
    assert list(store.list()) == ["lease/2"]


def test_a_dead_process_of_this_machine_is_not_watched(tmp_path, start):
    child = start(term_s=3600)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with acquire_lease(Store(str(tmp_path)), "lease") as lease:
        lease.check()
        assert list(Store(str(tmp_path)).list()) == ["lease/2"]


def test_a_dead_process_of_this_machine_is_not_alive(tmp_path, start):
    child = start(term_s=3600)
    state = lease_state(Store(str(tmp_path)), "lease")
    assert (state.owner.pid, state.is_alive) == (child.pid, True)
    child.kill()
    child.wait()
    assert not lease_state(Store(str(tmp_path)), "lease").is_alive


def test_a_suspended_process_that_lost_its_lease_stops(tmp_path, start):
    child = start()
    suspend(child)
    with acquire_lease(Store(str(tmp_path)), "lease") as lease:
        child.send_signal(signal.SIGCONT)
        _, stderr = child.communicate("\n", timeout=120)
        assert "LeaseLostError" in stderr
        lease.check()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no clock that runs while suspended")
def test_suspending_the_machine_counts_as_silence(store, monkeypatch):
    """`time.monotonic` stands still while Linux is suspended; CLOCK_BOOTTIME jumps ahead, as here."""
    with acquire_lease(store, "lease") as lease:
        store.put("lease/2", foreign_lease())
        lease.check()
        real = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 3600 * (clock == time.CLOCK_BOOTTIME))
        with pytest.raises(LeaseLostError, match="taken over by process 7 on elsewhere"):
            lease.check()


def test_a_suspended_process_that_kept_its_lease_continues(tmp_path, start):
    child = start()
    suspend(child)
    time.sleep(1.5 * TERM_S)
    child.send_signal(signal.SIGCONT)
    _, stderr = child.communicate("\n", timeout=120)
    assert (child.returncode, stderr) == (0, "")
    assert list(Store(str(tmp_path)).list()) == []


def test_a_reused_process_number_counts_as_dead():
    owner = Owner.this_process()
    assert not owner.is_dead
    assert Owner.from_json(owner.to_json() | {"started": "1"}).is_dead
    assert not Owner.from_json(owner.to_json() | {"started": "1", "machine": "another"}).is_dead


def test_a_process_that_the_system_hides_is_alive(monkeypatch):
    owner = Owner.from_json(Owner.this_process().to_json() | {"pid": os.getppid(), "started": "1"})
    read = Path.read_text

    def hidden(path, *args, **kwargs):
        if str(path) == f"/proc/{os.getppid()}/stat":
            raise FileNotFoundError(path)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", hidden)
    for seen in (None, PermissionError):

        def kill(pid, number, seen=seen):
            assert (pid, number) == (os.getppid(), 0)
            if seen is not None:
                raise seen

        monkeypatch.setattr(os, "kill", kill)
        assert not owner.is_dead

    def gone(_, __):
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert owner.is_dead


@pytest.mark.parametrize("changes", [{"pid": 10**30}, {"pid": 0}, {"pid": "1"}, {"pid": True}, {"host": 7}])
def test_an_owner_that_cannot_be_is_no_owner(changes):
    with pytest.raises((TypeError, ValueError)):
        Owner.from_json(Owner.this_process().to_json() | changes)
