from __future__ import annotations

from dataclasses import dataclass

import pytest

from cluster.execution.loss_attribution import LossAttribution
from cluster.execution.schedule import InFlightUnit
from cluster.execution.step import Unit

NONE: frozenset[str] = frozenset()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def begun(clock: Clock, *, node: str | None = "a", is_certain: bool = True) -> LossAttribution:
    loss_attribution = LossAttribution(clock=clock)
    loss_attribution.begin([InFlightUnit(Unit("out/0", None))], node=node, reason="it died", is_certain=is_certain)
    return loss_attribution


def attributed(loss_attribution: LossAttribution, dead: frozenset[str] = NONE) -> list[bool]:
    return [died_by_itself for _, died_by_itself in loss_attribution.attributed(dead)]


@pytest.mark.parametrize(("is_certain", "grace_s"), [(True, 2.0), (False, 30.0)])
def test_a_worker_died_by_itself_when_its_node_outlives_the_grace(is_certain: bool, grace_s: float) -> None:
    clock = Clock()
    loss_attribution = begun(clock, is_certain=is_certain)
    clock.now = grace_s - 0.1
    assert (attributed(loss_attribution), len(loss_attribution)) == ([], 1)
    clock.now = grace_s
    assert (attributed(loss_attribution), len(loss_attribution)) == ([True], 0)


def test_a_worker_went_with_its_node_as_soon_as_that_is_known_to_be_dead() -> None:
    clock = Clock()
    loss_attribution = begun(clock, is_certain=False)
    assert attributed(loss_attribution, frozenset({"b"})) == []
    assert attributed(loss_attribution, frozenset({"a", "b"})) == [False]
    assert attributed(loss_attribution, frozenset({"a", "b"})) == []


def test_a_worker_without_a_known_node_died_by_itself() -> None:
    clock = Clock()
    loss_attribution = begun(clock, node=None)
    assert attributed(loss_attribution, frozenset({"a"})) == []
    clock.now = 2.0
    assert attributed(loss_attribution, frozenset({"a"})) == [True]
