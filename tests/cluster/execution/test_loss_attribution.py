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


def one_loss(clock: Clock, *, node: str | None = "a", is_certain: bool = True) -> LossAttribution:
    losses = LossAttribution(clock=clock)
    losses.add([InFlightUnit(Unit("out/0", None))], node=node, reason="it died", is_certain=is_certain)
    return losses


def resolved(losses: LossAttribution, dead_nodes: frozenset[str] = NONE) -> list[bool]:
    return [is_own_death for _, is_own_death in losses.resolve(dead_nodes)]


@pytest.mark.parametrize(("is_certain", "grace_s"), [(True, 2.0), (False, 30.0)])
def test_a_loss_counts_as_own_death_after_the_grace_period(is_certain: bool, grace_s: float) -> None:
    clock = Clock()
    losses = one_loss(clock, is_certain=is_certain)
    clock.now = grace_s - 0.1
    assert (resolved(losses), len(losses)) == ([], 1)
    clock.now = grace_s
    assert (resolved(losses), len(losses)) == ([True], 0)


def test_a_loss_is_attributed_to_a_dead_node_at_once() -> None:
    clock = Clock()
    losses = one_loss(clock, is_certain=False)
    assert resolved(losses, frozenset({"b"})) == []
    assert resolved(losses, frozenset({"a", "b"})) == [False]
    assert resolved(losses, frozenset({"a", "b"})) == []


def test_a_loss_without_a_known_node_counts_as_own_death() -> None:
    clock = Clock()
    losses = one_loss(clock, node=None)
    assert resolved(losses, frozenset({"a"})) == []
    clock.now = 2.0
    assert resolved(losses, frozenset({"a"})) == [True]
