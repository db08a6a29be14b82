"""Of many who want a folder one gets it, whoever is dead loses it, and whoever lost it is told."""

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
from uuid import uuid4

import pytest

from cluster import LeaseHeldError, LeaseLostError, Retry, Store, acquire_lease, lease_owner
from cluster.storage.lease import LeaseRecord
from cluster.storage.lease import _seconds as lease_seconds
from cluster.storage.lease_owner import Owner
from tests.cluster import faulty  # noqa: F401 -- registers `orderly://`

TERM_S = 0.6
"""So short that a busy machine may well renew too late, which matters only to those who watch: see `patient`."""
SLEEPER = """
import sys, time
from cluster import Store, acquire_lease
with acquire_lease(Store(sys.argv[1]), "lease", term_s=float(sys.argv[2])) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    lease.check()
"""


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return Store(str(tmp_path) if request.param == "local" else f"orderly://{uuid4().hex}/run")


@pytest.fixture
def start(tmp_path):
    """Starts a process that holds the lease until it is spoken to."""
    started = []

    def start(term_s=TERM_S):
        words = [sys.executable, "-c", SLEEPER, str(tmp_path), str(term_s)]
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def patient(store):
    """The store of one who watches for a hundred times as long as it was asked to, and looks as often."""
    slow = Retry(clock=lambda: time.monotonic() / 100, sleep=lambda _: time.sleep(0.01))
    return replace(store, retry=slow)


def stop(child):
    """Every thread of the process stands still when this returns."""
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)


def stranger(term_s=TERM_S, **changes):
    """A holder of another machine, which nobody here can look at."""
    values = Owner.here().to_json() | {"machine": "another", "host": "elsewhere", "pid": 7} | changes
    return LeaseRecord(Owner.from_json(values), term_s).to_bytes()


def test_a_lease_is_gone_when_it_was_released(store):
    for _ in range(3):
        with acquire_lease(store, "lease") as lease:
            lease.check()
            assert list(store.list()) == ["lease/1"]
        assert list(store.list()) == []


def test_a_living_holder_is_named_and_nothing_is_written(store):
    messages = []
    with acquire_lease(store, "lease", term_s=TERM_S) as lease:
        message = rf"is being written by process {os.getpid()} on .* since 20.*; nothing was done"
        with (
            pytest.raises(LeaseHeldError, match=message),
            acquire_lease(patient(store), "lease", on_wait=messages.append),
        ):
            pass
        lease.check()
        assert list(store.list()) == ["lease/1"]
    assert [str(os.getpid()) in who for who in messages] == [True]


def test_who_holds_it_can_be_looked_up_without_waiting(store):
    assert lease_owner(store, "lease") is None
    store.put("lease/3", stranger())
    assert (lease_owner(store, "lease").host, lease_owner(store, "lease").pid) == ("elsewhere", 7)
    with acquire_lease(store, "mine") as lease:
        assert lease_owner(store, "mine").pid == os.getpid()
        lease.check()
    assert lease_owner(store, "mine") is None


def test_of_many_at_once_one_gets_it(store):
    done = threading.Event()

    def attempt(index):
        try:
            with acquire_lease(patient(store), "lease", term_s=TERM_S):
                done.wait(60)
                return "held"
        except LeaseHeldError:
            done.set()
            return "refused"

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(attempt, range(6)))
    assert "refused" in results
    assert list(store.list()) == []


def test_a_silent_stranger_is_waited_for_as_long_as_it_asked_to_be(store):
    store.put("lease/4", stranger(term_s=0.3))
    before = time.monotonic()
    with acquire_lease(store, "lease", term_s=60.0) as lease:
        assert time.monotonic() - before >= 0.3
        lease.check()
        assert list(store.list()) == ["lease/5"]


def test_a_holder_that_is_taken_over_learns_it_and_takes_nothing_back(store):
    with acquire_lease(store, "lease", term_s=TERM_S) as lease:
        store.put("lease/2", stranger())
        time.sleep(TERM_S)
        with pytest.raises(LeaseLostError, match=r"taken over by process 7 on elsewhere .*nothing more is written"):
            lease.check()
    assert json.loads(store.get("lease/2"))["host"] == "elsewhere"


@pytest.mark.parametrize("left", [[], ["lease/1"]])
def test_a_holder_whose_object_is_gone_or_another_ones_has_lost(store, monkeypatch, left):
    """An hour passes at once: a renewal that came between the change and the look would undo the change."""
    with acquire_lease(store, "lease", term_s=600) as lease:
        store.delete("lease/1")
        for path in left:
            store.put(path, stranger())
        real = lease_seconds()
        monkeypatch.setattr("cluster.storage.lease._seconds", lambda: real + 3600)
        with pytest.raises(LeaseLostError):
            lease.check()
    assert list(store.list()) == left


def test_one_that_comes_to_an_epoch_that_is_long_over_does_not_win_it(store, monkeypatch):
    """Between its look and its write, two others have come; one of them is still there."""
    listings = iter([[], ["lease/1", "lease/2"]])
    store.put("lease/2", stranger(term_s=600))
    real = Store.list

    def listed(self, prefix=""):
        return iter(next(listings, None) or real(self, prefix))

    monkeypatch.setattr(Store, "list", listed)
    stop = RuntimeError("waits for the one that is still there")

    def messages(who):
        raise stop

    with pytest.raises(RuntimeError, match="waits"), acquire_lease(store, "lease", on_wait=messages):
        pass
    monkeypatch.undo()
    assert list(store.list()) == ["lease/2"]


def test_a_killed_process_of_this_machine_is_not_waited_for(tmp_path, start):
    child = start(term_s=3600)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with acquire_lease(Store(str(tmp_path)), "lease") as lease:
        lease.check()
        assert list(Store(str(tmp_path)).list()) == ["lease/2"]


def test_a_killed_process_of_this_machine_holds_nothing(tmp_path, start):
    child = start()
    assert lease_owner(Store(str(tmp_path)), "lease").pid == child.pid
    child.kill()
    child.wait()
    assert lease_owner(Store(str(tmp_path)), "lease") is None


def test_a_process_that_slept_finds_its_place_taken_when_it_wakes(tmp_path, start):
    child = start()
    stop(child)
    with acquire_lease(Store(str(tmp_path)), "lease") as lease:
        child.send_signal(signal.SIGCONT)
        _, messages = child.communicate("\n", timeout=120)
        assert "LeaseLostError" in messages
        lease.check()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no clock that goes on asleep")
def test_a_machine_that_slept_counts_as_silence(store, monkeypatch):
    """`time.monotonic` stands still while Linux is suspended; CLOCK_BOOTTIME jumps ahead, as here."""
    with acquire_lease(store, "lease") as lease:
        store.put("lease/2", stranger())
        lease.check()
        real = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + 3600 * (clock == time.CLOCK_BOOTTIME))
        with pytest.raises(LeaseLostError, match="taken over by process 7 on elsewhere"):
            lease.check()


def test_a_process_that_slept_and_was_not_missed_goes_on(tmp_path, start):
    child = start()
    stop(child)
    time.sleep(1.5 * TERM_S)
    child.send_signal(signal.SIGCONT)
    _, messages = child.communicate("\n", timeout=120)
    assert (child.returncode, messages) == (0, "")
    assert list(Store(str(tmp_path)).list()) == []


def test_a_process_number_that_is_another_process_now_is_dead():
    owner = Owner.here()
    assert not owner.is_dead
    assert Owner.from_json(owner.to_json() | {"started": "1"}).is_dead
    assert not Owner.from_json(owner.to_json() | {"started": "1", "machine": "another"}).is_dead
