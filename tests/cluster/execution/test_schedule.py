from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.execution.schedule import InFlightUnit, Schedule, StragglerDetector
from cluster.execution.step import Unit


def schedule_of(count: int, *, overlap: int = 2, max_attempts: int = 3) -> Schedule[str]:
    schedule: Schedule[str] = Schedule(overlap=overlap, max_attempts=max_attempts)
    for index in range(count):
        schedule.add(Unit(str(index), None))
    return schedule


def paths(tickets: list[InFlightUnit]) -> list[str]:
    return [ticket.unit.path for ticket in tickets]


def test_units_go_to_the_least_busy_worker_up_to_the_overlap() -> None:
    schedule = schedule_of(5)
    schedule.join("a")
    schedule.join("b")
    assert [(worker, ticket.unit.path) for worker, ticket in schedule.assign()] == [
        ("a", "0"),
        ("b", "1"),
        ("a", "2"),
        ("b", "3"),
    ]


def test_after_a_loss_each_suspect_runs_alone() -> None:
    schedule = schedule_of(3)
    schedule.join("a")
    list(schedule.assign())
    lost = schedule.lose("a")
    assert (paths(lost), schedule.blame(lost)) == (["0", "1"], [])
    for expected in ("0", "1", "2"):
        schedule.join("b")
        ((worker, ticket),) = list(schedule.assign())
        assert ticket.unit.path == expected
        schedule.finish(worker, ticket)
    assert schedule.alive == 0


def test_other_workers_go_on_while_suspects_wait() -> None:
    schedule = schedule_of(8)
    for worker in "abc":
        schedule.join(worker)
    held = list(schedule.assign())
    schedule.blame(schedule.lose("a"))
    for worker, ticket in held:
        if worker != "a":
            schedule.finish(worker, ticket)
            break
    assert [(worker, ticket.losses) for worker, ticket in schedule.assign()] == []
    schedule.finish(*next((worker, ticket) for worker, ticket in held if worker == "c"))
    assert [worker for worker, _ in schedule.assign()] == ["c"]


def test_a_loss_that_two_share_gives_up_neither_even_at_one_attempt() -> None:
    schedule = schedule_of(2, max_attempts=1)
    schedule.join("a")
    list(schedule.assign())
    assert schedule.blame(schedule.lose("a")) == []
    schedule.join("b")
    ((_, suspect),) = list(schedule.assign())
    assert schedule.blame(schedule.lose("b")) == [suspect]


def test_units_whose_worker_went_with_its_node_are_next_and_no_suspects() -> None:
    schedule = schedule_of(3, max_attempts=1)
    schedule.join("a")
    list(schedule.assign())
    lost = schedule.lose("a")
    schedule.join("b")
    assert [ticket.unit.path for _, ticket in schedule.assign()] == ["2"]
    assert schedule.alive == 3
    schedule.clear(reversed(lost))
    assert [(ticket.unit.path, ticket.losses) for _, ticket in schedule.assign()] == [("0", 0)]
    assert schedule.alive == 3


def test_a_suspect_that_is_acquitted_of_another_loss_still_runs_alone() -> None:
    schedule = schedule_of(4)
    schedule.join("a")
    list(schedule.assign())
    schedule.blame(schedule.lose("a"))
    schedule.join("b")
    list(schedule.assign())
    schedule.clear(schedule.lose("b"))
    schedule.join("c")
    assert [(ticket.unit.path, ticket.losses) for _, ticket in schedule.assign()] == [("0", 1)]


def test_a_worker_that_leaves_takes_nothing_new_and_goes_when_it_holds_nothing() -> None:
    schedule = schedule_of(4, overlap=1)
    schedule.join("a")
    ((_, ticket),) = list(schedule.assign())
    assert not schedule.retire("a")
    schedule.join("b")
    assert [worker for worker, _ in schedule.assign()] == ["b"]
    schedule.finish("a", ticket)
    assert list(schedule.assign()) == []
    assert schedule.retire("a")
    assert schedule.retire("never joined")
    assert schedule.alive == 3


def test_what_helpers_prepared_goes_first_and_a_worker_holds_one_unit_that_nobody_prepared() -> None:
    schedule: Schedule[str] = Schedule(overlap=2, max_attempts=3, unprepared=1)
    for index in range(4):
        schedule.add(Unit(str(index), None))
    schedule.join("a")
    assert [ticket.unit.path for _, ticket in schedule.assign()] == ["0"]
    lent = schedule.lend()
    assert lent is not None
    assert lent.unit.path == "1"
    lent.prepared = "by a helper"
    schedule.take_back(lent)
    assert schedule.prepared == 1
    ((worker, ticket),) = list(schedule.assign())
    assert ticket is lent
    schedule.finish(worker, ticket)
    assert list(schedule.assign()) == []
    schedule.join("b")
    assert [(worker, ticket.unit.path) for worker, ticket in schedule.assign()] == [("b", "2")]
    assert schedule.alive == 3


def test_a_unit_that_a_helper_did_not_get_to_waits_again() -> None:
    schedule = schedule_of(2)
    lent = schedule.lend()
    assert lent is not None
    schedule.join("a")
    assert [ticket.unit.path for _, ticket in schedule.assign()] == ["1"]
    schedule.join("b")
    assert schedule.is_starved
    schedule.take_back(lent)
    assert not schedule.is_starved
    assert [(worker, ticket.unit.path) for worker, ticket in schedule.assign()] == [("b", "0")]


def test_a_slow_unit_is_copied_when_nothing_waits_and_the_first_answer_counts() -> None:
    schedule = schedule_of(3, overlap=1)
    schedule.join("a")
    schedule.join("b")
    (_, slow), (_, quick) = list(schedule.assign())
    schedule.finish("b", quick)
    assert schedule.copy(lambda _: True) is None
    ((_, last),) = list(schedule.assign())
    schedule.finish("b", last)
    assert schedule.copy(lambda _: False) is None
    assert schedule.copy(lambda _: True) == ("b", slow)
    schedule.join("c")
    assert schedule.copy(lambda _: True) is None
    assert schedule.finish("b", slow)
    assert schedule.alive == 0
    assert not schedule.finish("a", slow)
    assert schedule.alive == 0


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_copied_unit_is_lost_with_the_last_worker_that_holds_it(first: str) -> None:
    schedule = schedule_of(1)
    schedule.join("a")
    schedule.join("b")
    ((_, ticket),) = list(schedule.assign())
    assert schedule.copy(lambda _: True) == ("b", ticket)
    assert schedule.lose(first) == []
    assert schedule.lose("b" if first == "a" else "a") == [ticket]


def test_a_unit_is_slow_at_three_times_its_share_but_not_below_ten_seconds() -> None:
    pace = StragglerDetector()
    for seconds in (1.0, 2.0, 2.0, 100.0):
        pace.add(seconds, weight=1)
    assert not pace.is_slow(1000.0, weight=1)
    pace.add(20.0, weight=10)
    assert [pace.is_slow(seconds, weight=1) for seconds in (6.1, 10.0)] == [False, True]
    assert [pace.is_slow(seconds, weight=10) for seconds in (59.0, 61.0)] == [False, True]


@settings(max_examples=60, deadline=None)
@given(
    poison=st.sets(st.integers(0, 11)),
    workers=st.integers(1, 4),
    overlap=st.integers(1, 3),
    max_attempts=st.integers(1, 4),
    data=st.data(),
)
def test_exactly_the_units_that_kill_are_given_up(
    poison: set[int], workers: int, overlap: int, max_attempts: int, data: st.DataObject
) -> None:
    schedule = schedule_of(12, overlap=overlap, max_attempts=max_attempts)
    for index in range(workers):
        schedule.join(str(index))
    running: list[tuple[str, InFlightUnit]] = []
    finished: Counter[str] = Counter()
    given_up: Counter[str] = Counter()
    while schedule.alive:
        running += schedule.assign()
        assert max(Counter(worker for worker, _ in running).values()) <= overlap
        worker, ticket = running.pop(data.draw(st.integers(0, len(running) - 1)))
        node_is_lost = data.draw(st.booleans())
        if int(ticket.unit.path) not in poison and not node_is_lost:
            schedule.finish(worker, ticket)
            finished[ticket.unit.path] += 1
            continue
        running = [(other, held) for other, held in running if other != worker]
        lost = schedule.lose(worker)
        if node_is_lost:
            schedule.clear(lost)
        else:
            given_up.update(paths(schedule.blame(lost)))
        schedule.join(worker)
    assert given_up == Counter(map(str, poison))
    assert finished == Counter(str(index) for index in range(12) if index not in poison)
