"""Simulated nights of an archive: images come, are compared with a reference, and from some night on are different."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewshot.drift import SAMPLE, Finding, Floors, Sample, Spent, compare, next_level, windows

Draw = Callable[[np.random.Generator, int, int], Sample]
"""Draws images of a night, given a generator, their number, and the night; 0 for the reference."""
DAY = 1.0 / 365.0


@dataclass(frozen=True, slots=True)
class Night:
    """A simulated night: its number from 1, its level, and what was found."""

    number: int
    level: float
    findings: Sequence[Finding]

    @property
    def alarms(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_alarm]


def joined(samples: Sequence[Sample]) -> Sample:
    return Sample(
        np.concatenate([each.features for each in samples]),
        np.concatenate([each.classes for each in samples]),
        np.concatenate([each.withheld for each in samples]),
    )


def simulate(
    draw: Draw,
    *,
    nights: int,
    images: int,
    reference: int,
    grows: bool,
    seed: int,
    alarms_a_year: float = 1.0,
    floors: Floors | None = None,
    compared_from: int = 1,
    until_alarm: bool = False,
    sample: int = SAMPLE,
) -> list[Night]:
    """Simulate nights.

    Args:
        draw: draws images, none twice.
        nights: number of nights, one a day.
        images: that come in a night.
        reference: images of the reference.
        grows: whether they are added to the archive; otherwise they replace it.
        seed: of all draws.
        alarms_a_year: see `next_level`.
        floors: smallest effects; None takes the defaults.
        compared_from: first night that is compared; those before it spend their levels.
        until_alarm: end with the first alarm.
        sample: images of the long window.
    """
    rng = np.random.default_rng(seed)
    base = draw(rng, reference, 0)
    spent: list[Spent] = []
    came: list[tuple[int, Sample]] = []
    found: list[Night] = []
    for number in range(1, nights + 1):
        came = [(number, draw(rng, images, number)), *(came if grows else [])]
        came = came[: -(-sample // images)]
        level = next_level(spent, number * DAY, alarms_a_year=alarms_a_year)
        present = joined([sample for _, sample in came]).first(sample)
        numbers = [night for night, sample in came for _ in range(len(sample))][:sample]
        if not (sizes := windows(numbers)):
            continue
        spent.append(Spent(number * DAY, level))
        if number < compared_from:
            continue
        findings, _ = compare(base, present, sizes, level=level, floors=floors, seed=seed)
        found.append(Night(number, level, findings))
        if until_alarm and found[-1].alarms:
            break
    return found
