"""How many examples a `max_error` needs, and how many images it labels, known before and after a training."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.results.json_format import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledShare(JsonValue):
    """What would be labelled at a `max_error`.

    Attributes:
        max_error: error rate that is tolerated among labels given, in (0, 1).
        needed: the smallest number of held-out examples, all labelled right, that can show it.
        threshold: labels with a smaller score would be withheld; None where all would be, or nothing is trained yet.
        held_out_share: share of the held-out examples that would be labelled, in [0, 1]; None before the training.
        archive_share: share of the images of the archive that could be read; None before they are labelled, and with
            [escalate], where another `max_error` escalates other images.
    """

    max_error: float
    needed: int
    threshold: float | None = None
    held_out_share: float | None = None
    archive_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLimitPlan(JsonValue):
    """Whether there are enough examples for a job's `max_error`.

    Attributes:
        max_error: of the job; None labels every image.
        confidence: with which it is to hold, in (0, 1).
        held_out: examples that can be held out, at most; of a trained classifier, that were.
        needed: the smallest number of held-out examples, all labelled right, that can show `max_error`; None without
            one.
        least_error: the least error rate that `held_out` examples can show, in (0, 1); None where there are none.
        shares: what would be labelled at several maximum error rates.
    """

    max_error: float | None
    confidence: float
    held_out: int
    needed: int | None
    least_error: float | None
    shares: tuple[LabelledShare, ...]

    @property
    def is_reachable(self) -> bool:
        """Whether so many held-out examples can show that error rate."""
        return self.needed is None or self.held_out >= self.needed


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedThreshold(JsonValue):
    """The threshold of a `max_error` that an audit of the archive shows.

    Attributes:
        max_error: error rate that is tolerated among labels given, in (0, 1).
        confidence: with which it holds, in (0, 1).
        draw: ID of the audit's draw.
        date: of the latest answer that counts, such as "2026-11-30" (UTC).
        population: number of images that the sample was drawn from.
        answered: number of answers that count.
        needed: number of answers to the most certain images that can show `max_error`, if all are right.
        threshold: labels with a smaller score are withheld; None: no threshold passes, and all are.
        share: of the population that reaches it, in [0, 1].
        reaching: answers to such images.
        wrong: how many of them are wrong, or not known to be right.
    """

    max_error: float
    confidence: float
    draw: str
    date: str
    population: int
    answered: int
    needed: int
    threshold: float | None
    share: float
    reaching: int
    wrong: int

    def sentence(self) -> str:
        """Say which threshold it is, and what promises it."""
        audit = f"an audit of {self.answered:,} of {self.population:,} images on {self.date} (draw {self.draw})"
        if self.threshold is None:
            return (
                f"max_error = {self.max_error:g}: {audit} shows no threshold for it, so every label is withheld; it"
                f" takes at least {self.needed} answers to the most certain images. Label more images of the draw, or"
                " raise max_error"
            )
        return (
            f"max_error = {self.max_error:g}: labels with a score of at least {self.threshold:.4g} are given, promised"
            f" with {self.confidence:.0%} confidence by {audit}: of {self.reaching} answers to such images"
            f" {self.wrong} are wrong"
        )
