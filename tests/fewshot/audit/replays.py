"""Archives whose truth is known, and audits of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fewshot.audit import Answer, Answered, Draw, Sampler


@dataclass(frozen=True, eq=False)
class Archive:
    """Predictions of N images, and their true classes.

    Attributes:
        status: [N] str.
        label: [N] str, predicted.
        truth: [N] str.
        score: [N] float64; NaN for none.
    """

    status: np.ndarray
    label: np.ndarray
    truth: np.ndarray
    score: np.ndarray

    @classmethod
    def random(cls, rows: int, *, classes: int = 4, bias: float = 0.0, seed: int = 0) -> Archive:
        """Scores that are too low by `bias`; a tenth of the images abstain."""
        rng = np.random.default_rng(seed)
        score = 0.3 + 0.7 * rng.beta(4.0, 1.0, rows)
        right = rng.random(rows) < np.clip(score + bias, 0.02, 0.99)
        label = rng.integers(0, classes, rows)
        truth = np.where(right, label, (label + rng.integers(1, max(classes, 2), rows)) % max(classes, 2))
        status = np.where(score < np.quantile(score, 0.1), "abstained", "ok")
        return cls(status, np.char.add("c", label.astype(str)), np.char.add("c", truth.astype(str)), score)

    @property
    def right(self) -> np.ndarray:
        return self.label == self.truth

    def draw(self, size: int, *, key: str = "0", planned: int | None = None, parts: int = 1) -> Draw:
        sampler = Sampler(key=key, size=size, planned=planned)
        for part in np.array_split(np.arange(len(self.label)), parts):
            sampler.add(
                [f"{i}.jpg" for i in part],
                [""] * len(part),
                self.status[part].tolist(),
                self.label[part].tolist(),
                self.score[part],
                np.full(len(part), 0.25),
            )
        return sampler.finish()

    def answers(self, draw: Draw) -> list[Answer]:
        return [Answer(True, str(self.truth[index(row.image)])) for row in draw.rows]

    def audit(self, size: int, **options) -> Answered:
        draw = self.draw(size, **options)
        return Answered(draw, self.answers(draw), planned=size)

    def with_scores(self, score: np.ndarray) -> Archive:
        return replace(self, score=score)


def index(image: str) -> int:
    return int(image.removesuffix(".jpg"))
