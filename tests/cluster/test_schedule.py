from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.schedule import Schedule, Ticket
from cluster.step import Unit


def schedule_of(count: int, *, overlap: int = 2, max_attempts: int = 3) -> Schedule[str]:
    schedule: Schedule[str] = Schedule(overlap=overlap, max_attempts=max_attempts)
    for index in range(count):
        schedule.add(Unit(str(index), None))
    return schedule


def paths(tickets: list[Ticket]) -> list[str]:
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
    lost, guilty = schedule.lose("a")
    assert (paths(lost), guilty) == (["0", "1"], [])
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
    schedule.lose("a")
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
    assert schedule.lose("a")[1] == []
    schedule.join("b")
    ((_, suspect),) = list(schedule.assign())
    assert schedule.lose("b") == ([suspect], [suspect])


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
    running: list[tuple[str, Ticket]] = []
    finished: Counter[str] = Counter()
    given_up: Counter[str] = Counter()
    while schedule.alive:
        running += schedule.assign()
        assert max(Counter(worker for worker, _ in running).values()) <= overlap
        worker, ticket = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if int(ticket.unit.path) not in poison:
            schedule.finish(worker, ticket)
            finished[ticket.unit.path] += 1
            continue
        running = [(other, held) for other, held in running if other != worker]
        given_up.update(paths(schedule.lose(worker)[1]))
        schedule.join(worker)
    assert given_up == Counter(map(str, poison))
    assert finished == Counter(str(index) for index in range(12) if index not in poison)
