from __future__ import annotations

from dataclasses import dataclass

import pytest

from cluster.execution.loss_attribution import Trials
from cluster.execution.schedule import Ticket
from cluster.execution.step import Unit

NONE: frozenset[str] = frozenset()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def begun(clock: Clock, *, node: str | None = "a", is_certain: bool = True) -> Trials:
    trials = Trials(clock=clock)
    trials.begin([Ticket(Unit("out/0", None))], node=node, reason="it died", is_certain=is_certain)
    return trials


def verdicts(trials: Trials, dead: frozenset[str] = NONE) -> list[bool]:
    return [died_by_itself for _, died_by_itself in trials.verdicts(dead)]


@pytest.mark.parametrize(("is_certain", "grace_s"), [(True, 2.0), (False, 30.0)])
def test_a_worker_died_by_itself_when_its_node_outlives_the_grace(is_certain: bool, grace_s: float) -> None:
    clock = Clock()
    trials = begun(clock, is_certain=is_certain)
    clock.now = grace_s - 0.1
    assert (verdicts(trials), len(trials)) == ([], 1)
    clock.now = grace_s
    assert (verdicts(trials), len(trials)) == ([True], 0)


def test_a_worker_went_with_its_node_as_soon_as_that_is_known_to_be_dead() -> None:
    clock = Clock()
    trials = begun(clock, is_certain=False)
    assert verdicts(trials, frozenset({"b"})) == []
    assert verdicts(trials, frozenset({"a", "b"})) == [False]
    assert verdicts(trials, frozenset({"a", "b"})) == []


def test_a_worker_without_a_known_node_died_by_itself() -> None:
    clock = Clock()
    trials = begun(clock, node=None)
    assert verdicts(trials, frozenset({"a"})) == []
    clock.now = 2.0
    assert verdicts(trials, frozenset({"a"})) == [True]
