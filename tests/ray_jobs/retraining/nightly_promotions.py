"""Simulated projects in which a version is promoted every night, and the watch over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot.promotion import Comparison
from ray_jobs.retraining.fresh_labels import LabelComparison
from ray_jobs.retraining.turn import Rules, decide_watch


@dataclass(frozen=True, slots=True)
class TakenBack:
    """How projects ended.

    Attributes:
        share: of projects in which a version was taken back.
        night: median night of that, counted from 1; later than the last one where most have no such end.
    """

    share: float
    night: float


def promote_every_night(
    *,
    gain: float,
    labels: int,
    projects: int,
    nights: int = 100,
    disagreement: float = 0.1,
    rules: Rules | None = None,
    seed: int = 0,
) -> TakenBack:
    """Let projects run until a version is taken back, or to the last night.

    The first version that is watched has a gain over the one before; those after it are no better or worse than it.

    Args:
        gain: in accuracy.
        labels: new ones a night, which come to the version of that night.
        projects: number of them.
        nights: number of them.
        disagreement: share of images on which exactly one of two versions is right.
        rules: of the watch.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    ends = [_end(rng, gain, labels, nights, disagreement, rules or Rules()) for _ in range(projects)]
    return TakenBack(float(np.mean([end <= nights for end in ends])), float(np.median(ends)))


def _end(rng: np.random.Generator, gain: float, labels: int, nights: int, differ: float, rules: Rules) -> int:
    chain: list[np.ndarray] = []
    for night in range(1, nights + 1):
        chain.append(_gains(rng, gain, labels, differ))
        whole = _compared(chain)
        own = whole if len(chain) == 1 else _compared([_gains(rng, 0.0, labels, differ)])
        found = [each for each in decide_watch(own, None if len(chain) == 1 else whole, rules) if each is not None]
        if any(each.step == "roll back" for each in found):
            return night
        if found[-1].step == "confirm":
            chain = chain[whole.watched_enough(rules.watch_labels) or len(chain) :]
            gain = 0.0  # What the watch would restore is now one of the versions with the gain.
    return nights + 1


def _gains(rng: np.random.Generator, gain: float, labels: int, differ: float) -> np.ndarray:
    shares = [(differ + gain) / 2.0, (differ - gain) / 2.0, 1.0 - differ]
    return rng.choice([1, -1, 0], size=labels, p=shares)


def _compared(chain: list[np.ndarray]) -> LabelComparison:
    gains = np.concatenate(chain)
    newer = tuple(place for place, each in enumerate(chain) for _ in each)
    return LabelComparison(("one class",) * len(gains), Comparison(gains), 1, newer)
