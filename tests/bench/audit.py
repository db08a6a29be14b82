"""Audits of archives whose truth is known, replayed: how often intervals hold, and how wide they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fewshot.audit.betting import Bets, log_capital, lower_bound, upper_bound
from fewshot.audit.draw import FLOOR, needs_floor
from fewshot.audit.estimates import estimate_mean
from fewshot.audit.guesses import Strata, guessed_bets
from fewshot.audit.stratification import Cell, assign, bands_of, make_strata
from tests.bench.result import Gate, Result

ALPHA = 0.05
WIDTHS = 10
"""Of so many replays, one also computes the interval that holds at every look."""
SIZES = (60, 300)
METHODS = ("plain", "stratified", "PPI++", "both")


@dataclass(frozen=True, eq=False)
class Truth:
    """An archive whose truth is known.

    Attributes:
        name: of it.
        score: [N] float64.
        right: [N] float64, 1 where the prediction is right.
        label: [N] str, predicted.
    """

    name: str
    score: np.ndarray
    right: np.ndarray
    label: np.ndarray


def random_truth(name: str, *, rows: int, bias: float, sharpness: float, seed: int = 0) -> Truth:
    """Return an archive whose scores are too high by `bias`, and the higher, the larger `sharpness` is."""
    rng = np.random.default_rng(seed)
    score = 0.3 + 0.7 * rng.beta(sharpness, 1.0, rows)
    right = rng.random(rows) < np.clip(score - bias, 0.02, 0.995)
    return Truth(name, score, right.astype(float), rng.integers(0, 6, rows).astype(str))


ARCHIVES = (
    random_truth("confident, 60 % right", rows=3000, bias=0.2, sharpness=2.0),
    random_truth("calibrated, 80 % right", rows=3000, bias=0.0, sharpness=2.5),
    random_truth("97 % right", rows=10_000, bias=-0.08, sharpness=8.0),
    random_truth("small archive", rows=500, bias=0.0, sharpness=2.5),
)


@dataclass(frozen=True, eq=False)
class Design:
    """How an archive is sampled and estimated.

    Attributes:
        stratum: [N] int64.
        score: [N] float64.
        strata: of all rows.
        small: [H] bool, which strata have a floor.
    """

    stratum: np.ndarray
    score: np.ndarray
    strata: Strata
    small: np.ndarray

    @classmethod
    def from_truth(cls, truth: Truth, method: str, planned: int) -> Design:
        score = truth.score if method in ("PPI++", "both") else np.zeros(len(truth.score))
        stratum = np.zeros(len(score), np.int64)
        if method in ("stratified", "both"):
            bands = bands_of(truth.score).tolist()
            cells = [Cell("ok", True, band, label) for band, label in zip(bands, truth.label.tolist(), strict=True)]
            sizes = Counter(cells)
            index = assign(sizes, make_strata(sizes, planned=planned))
            stratum = np.array([index[cell] for cell in cells])
        rows = np.bincount(stratum)
        parts = [score[stratum == i] for i in range(len(rows))]
        sums = np.array([part.sum() for part in parts])
        least, greatest = (np.array([end(part) for part in parts]) for end in (np.min, np.max))
        return cls(stratum, score, Strata(rows, sums, least, greatest), needs_floor(rows, planned=planned))

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, int]:
        """Return the rows of a sample in its order, and how many come first."""
        order, other = rng.permutation(len(self.stratum)), rng.permutation(len(self.stratum))
        first = [other[self.stratum[other] == i][:FLOOR] for i in np.flatnonzero(self.small)]
        floor = np.concatenate([np.zeros(0, np.int64), *first])
        others = order[~np.isin(order, floor)]
        return np.concatenate([floor, others])[:size], len(floor)


def replays(truth: Truth, method: str, size: int, count: int) -> Iterator[tuple[bool, float, bool, float | None]]:
    """Yield of each replay whether the fixed interval holds, its half-width, and the same of the one at every look."""
    design, mean = Design.from_truth(truth, method, size), float(truth.right.mean())
    rng = np.random.default_rng(1)
    for replay in range(count):
        rows, known = design.draw(rng, size)
        value, score, stratum = truth.right[rows], design.score[rows], design.stratum[rows]
        fixed = estimate_mean(value, score, stratum, design.strata, alpha=ALPHA)
        assert fixed is not None
        bets = (
            Bets.without_guesses(value, planned=size, population=len(truth.right))
            if method == "plain"
            else guessed_bets(value, score, stratum, design.strata, planned=size, known=known)
        )
        holds = not _ever_wrong(bets, mean)
        width = None
        if replay % WIDTHS == 0:
            width = (upper_bound(bets, alpha=ALPHA / 2) - lower_bound(bets, alpha=ALPHA / 2)) / 2
        yield fixed.low <= mean <= fixed.high, (fixed.high - fixed.low) / 2, holds, width


def _ever_wrong(bets: Bets, mean: float) -> bool:
    pairs = ((bets, mean), (bets.complement(), 1.0 - mean))
    return max(log_capital(each, at, alpha=ALPHA / 2).max() for each, at in pairs) >= -np.log(ALPHA / 2)


def run(*, images: int, repeat: int) -> Result:
    """Replay audits.

    Args:
        images: number of replays.
        repeat: of no use: replays are repetitions.
    """
    del repeat
    rows, gates = [], []
    for truth in ARCHIVES:
        for size in SIZES:
            for method in METHODS:
                found = list(zip(*replays(truth, method, size, images), strict=True))
                widths = [width for width in found[3] if width is not None]
                rows.append(
                    {
                        "archive": truth.name,
                        "answers": float(size),
                        "estimate": method,
                        "fixed: holds, %": 100 * float(np.mean(found[0])),
                        "±, points": 100 * float(np.mean(found[1])),
                        "every look: holds, %": 100 * float(np.mean(found[2])),
                        "±, points at the last": 100 * float(np.mean(widths)),
                    }
                )
                if method == "both":
                    name = f"{truth.name}, {size}: % of replays that hold"
                    gates.append(Gate.at_least(f"{name} at every look", rows[-1]["every look: holds, %"], 94.0))
                    gates.append(Gate.at_least(f"{name} at the last", rows[-1]["fixed: holds, %"], 93.0))
    return Result("audit", f"accuracy of an archive, {images:,} replays", rows, gates)
