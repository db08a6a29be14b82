from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.execution.schedule import InFlightUnit, Schedule, StragglerDetector, preferred
from cluster.execution.step import Unit


def schedule_of(count: int, *, overlap: int = 2, max_attempts: int = 3) -> Schedule[str]:
    schedule: Schedule[str] = Schedule(overlap=overlap, max_attempts=max_attempts)
    for index in range(count):
        schedule.add_unit(Unit(str(index), None))
    return schedule


def paths(items: list[InFlightUnit]) -> list[str]:
    return [item.unit.path for item in items]


def test_units_go_to_the_least_busy_worker() -> None:
    schedule = schedule_of(5)
    schedule.add_worker("a")
    schedule.add_worker("b")
    assert [(worker, item.unit.path) for worker, item in schedule.assign()] == [
        ("a", "0"),
        ("b", "1"),
        ("a", "2"),
        ("b", "3"),
    ]


def test_a_free_worker_prefers_units_whose_needs_it_has_had() -> None:
    schedule: Schedule[str] = Schedule(overlap=1, max_attempts=3)
    had: dict[str, set[Hashable]] = {"a": {"x"}, "b": set()}
    for worker in "ab":
        schedule.add_worker(worker, had[worker])
    for path, needs in {"0": "yz", "1": "xy", "2": "x", "3": "z", "4": ""}.items():
        schedule.add_unit(Unit(path, None, needs=tuple(needs)))
    order = []
    while schedule.unfinished:
        for worker, item in list(schedule.assign()):
            order.append(worker + item.unit.path)
            schedule.finish(worker, item)
    assert order == ["a2", "b0", "a1", "b3", "a4"]
    assert had == {"a": {"x", "y"}, "b": {"y", "z"}}


@pytest.mark.parametrize(("needs", "expected"), [(["z", "xz"], 1), (["xz", "xyz"], 1), (["x", "xy"], 0), (["", ""], 0)])
def test_the_largest_share_of_needs_is_preferred_and_the_first_of_equals(needs: list[str], expected: int) -> None:
    units = [Unit(str(index), None, needs=tuple(each)) for index, each in enumerate(needs)]
    assert preferred(units, {"x", "y"}) == expected


def test_a_worker_that_replaces_a_lost_one_has_had_nothing() -> None:
    schedule: Schedule[str] = Schedule(overlap=1, max_attempts=3)
    schedule.add_worker("a", {"x"})
    schedule.lose_worker("a")
    schedule.add_worker("a")
    for path, needs in {"0": "z", "1": "x"}.items():
        schedule.add_unit(Unit(path, None, needs=(needs,)))
    assert [item.unit.path for _, item in schedule.assign()] == ["0"]


@given(needs=st.lists(st.sets(st.sampled_from("uvwxyz")), min_size=1), workers=st.integers(1, 4))
def test_every_unit_runs_once_whatever_it_needs(needs: list[set[str]], workers: int) -> None:
    schedule: Schedule[int] = Schedule(overlap=2, max_attempts=3)
    for worker in range(workers):
        schedule.add_worker(worker)
    for index, each in enumerate(needs):
        schedule.add_unit(Unit(str(index), None, needs=tuple(each)))
    ran = []
    while schedule.unfinished:
        for worker, item in list(schedule.assign()):
            ran.append(int(item.unit.path))
            schedule.finish(worker, item)
    assert sorted(ran) == list(range(len(needs)))


def test_after_a_loss_each_suspect_runs_alone() -> None:
    schedule = schedule_of(3)
    schedule.add_worker("a")
    list(schedule.assign())
    lost = schedule.lose_worker("a")
    assert (paths(lost), schedule.blame(lost)) == (["0", "1"], [])
    for expected in ("0", "1", "2"):
        schedule.add_worker("b")
        ((worker, item),) = list(schedule.assign())
        assert item.unit.path == expected
        schedule.finish(worker, item)
    assert schedule.unfinished == 0


def test_one_worker_is_kept_free_for_waiting_suspects() -> None:
    schedule = schedule_of(8)
    for worker in "abc":
        schedule.add_worker(worker)
    held = list(schedule.assign())
    schedule.blame(schedule.lose_worker("a"))
    for worker, item in held:
        if worker != "a":
            schedule.finish(worker, item)
            break
    assert [(worker, item.losses) for worker, item in schedule.assign()] == []
    schedule.finish(*next((worker, item) for worker, item in held if worker == "c"))
    assert [worker for worker, _ in schedule.assign()] == ["c"]


def test_a_shared_loss_gives_up_no_unit() -> None:
    schedule = schedule_of(2, max_attempts=1)
    schedule.add_worker("a")
    list(schedule.assign())
    assert schedule.blame(schedule.lose_worker("a")) == []
    schedule.add_worker("b")
    ((_, suspect),) = list(schedule.assign())
    assert schedule.blame(schedule.lose_worker("b")) == [suspect]


def test_units_lost_with_a_node_are_next_and_no_suspects() -> None:
    schedule = schedule_of(3, max_attempts=1)
    schedule.add_worker("a")
    list(schedule.assign())
    lost = schedule.lose_worker("a")
    schedule.add_worker("b")
    assert [item.unit.path for _, item in schedule.assign()] == ["2"]
    assert schedule.unfinished == 3
    schedule.clear(reversed(lost))
    assert [(item.unit.path, item.losses) for _, item in schedule.assign()] == [("0", 0)]
    assert schedule.unfinished == 3


def test_a_suspect_cleared_of_another_loss_still_runs_alone() -> None:
    schedule = schedule_of(4)
    schedule.add_worker("a")
    list(schedule.assign())
    schedule.blame(schedule.lose_worker("a"))
    schedule.add_worker("b")
    list(schedule.assign())
    schedule.clear(schedule.lose_worker("b"))
    schedule.add_worker("c")
    assert [(item.unit.path, item.losses) for _, item in schedule.assign()] == [("0", 1)]


def test_a_draining_worker_gets_no_new_unit() -> None:
    schedule = schedule_of(4, overlap=1)
    schedule.add_worker("a")
    ((_, item),) = list(schedule.assign())
    assert not schedule.drain_worker("a")
    schedule.add_worker("b")
    assert [worker for worker, _ in schedule.assign()] == ["b"]
    schedule.finish("a", item)
    assert list(schedule.assign()) == []
    assert schedule.drain_worker("a")
    assert schedule.drain_worker("never joined")
    assert schedule.unfinished == 3


def test_prepared_units_come_before_unprepared_ones() -> None:
    schedule: Schedule[str] = Schedule(overlap=2, max_attempts=3, unprepared=1)
    for index in range(4):
        schedule.add_unit(Unit(str(index), None))
    schedule.add_worker("a")
    assert [item.unit.path for _, item in schedule.assign()] == ["0"]
    taken = schedule.take_for_helper()
    assert taken is not None
    assert taken.unit.path == "1"
    taken.prepared = "by a helper"
    schedule.requeue(taken)
    assert schedule.num_prepared == 1
    ((worker, item),) = list(schedule.assign())
    assert item is taken
    schedule.finish(worker, item)
    assert list(schedule.assign()) == []
    schedule.add_worker("b")
    assert [(worker, item.unit.path) for worker, item in schedule.assign()] == [("b", "2")]
    assert schedule.unfinished == 3


def test_a_unit_unprepared_by_its_helper_is_queued_again() -> None:
    schedule = schedule_of(2)
    taken = schedule.take_for_helper()
    assert taken is not None
    schedule.add_worker("a")
    assert [item.unit.path for _, item in schedule.assign()] == ["1"]
    schedule.add_worker("b")
    assert schedule.is_starved
    schedule.requeue(taken)
    assert not schedule.is_starved
    assert [(worker, item.unit.path) for worker, item in schedule.assign()] == [("b", "0")]


def test_a_slow_unit_is_duplicated_and_its_first_result_counts() -> None:
    schedule = schedule_of(3, overlap=1)
    schedule.add_worker("a")
    schedule.add_worker("b")
    (_, slow), (_, quick) = list(schedule.assign())
    schedule.finish("b", quick)
    assert schedule.duplicate(lambda _: True) is None
    ((_, last),) = list(schedule.assign())
    schedule.finish("b", last)
    assert schedule.duplicate(lambda _: False) is None
    assert schedule.duplicate(lambda _: True) == ("b", slow)
    schedule.add_worker("c")
    assert schedule.duplicate(lambda _: True) is None
    assert schedule.finish("b", slow)
    assert schedule.unfinished == 0
    assert not schedule.finish("a", slow)
    assert schedule.unfinished == 0


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_duplicated_unit_is_lost_with_its_last_worker(first: str) -> None:
    schedule = schedule_of(1)
    schedule.add_worker("a")
    schedule.add_worker("b")
    ((_, item),) = list(schedule.assign())
    assert schedule.duplicate(lambda _: True) == ("b", item)
    assert schedule.lose_worker(first) == []
    assert schedule.lose_worker("b" if first == "a" else "a") == [item]


def test_a_unit_is_slow_at_three_times_the_median() -> None:
    detector = StragglerDetector()
    for seconds in (1.0, 2.0, 2.0, 100.0):
        detector.add(seconds, weight=1)
    assert not detector.is_slow(1000.0, weight=1)
    detector.add(20.0, weight=10)
    assert [detector.is_slow(seconds, weight=1) for seconds in (6.1, 10.0)] == [False, True]
    assert [detector.is_slow(seconds, weight=10) for seconds in (59.0, 61.0)] == [False, True]


@settings(max_examples=60, deadline=None)
@given(
    poison=st.sets(st.integers(0, 11)),
    workers=st.integers(1, 4),
    overlap=st.integers(1, 3),
    max_attempts=st.integers(1, 4),
    data=st.data(),
)
def test_exactly_the_units_that_kill_workers_are_given_up(
    poison: set[int], workers: int, overlap: int, max_attempts: int, data: st.DataObject
) -> None:
    schedule = schedule_of(12, overlap=overlap, max_attempts=max_attempts)
    for index in range(workers):
        schedule.add_worker(str(index))
    running: list[tuple[str, InFlightUnit]] = []
    finished: Counter[str] = Counter()
    given_up: Counter[str] = Counter()
    while schedule.unfinished:
        running += schedule.assign()
        assert max(Counter(worker for worker, _ in running).values()) <= overlap
        worker, item = running.pop(data.draw(st.integers(0, len(running) - 1)))
        node_is_lost = data.draw(st.booleans())
        if int(item.unit.path) not in poison and not node_is_lost:
            schedule.finish(worker, item)
            finished[item.unit.path] += 1
            continue
        running = [(other, held) for other, held in running if other != worker]
        lost = schedule.lose_worker(worker)
        if node_is_lost:
            schedule.clear(lost)
        else:
            given_up.update(paths(schedule.blame(lost)))
        schedule.add_worker(worker)
    assert given_up == Counter(map(str, poison))
    assert finished == Counter(str(index) for index in range(12) if index not in poison)
