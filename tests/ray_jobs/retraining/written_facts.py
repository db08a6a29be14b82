"""Facts of a turn that are written by hand: no image is read, no classifier is trained, and predictions are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ray_jobs.classification.classify import Classification
from ray_jobs.console.progress import Reporter
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Move, Promoted, Registered
from ray_jobs.retraining.fresh_labels import ComparedVersion, FreshLabel, ScoredLabel
from ray_jobs.retraining.turn import Rules
from ray_jobs.retraining.turn_facts import Acceptance, TurnFacts
from tests.ray_jobs.registry.registered import open_local, version

Labels = Mapping[str, str]
"""Class by content."""


@dataclass(frozen=True)
class WrittenEvidence:
    """What stands for the labels of a ledger, see `EvidenceSource`."""

    labels: tuple[FreshLabel, ...] = ()
    chosen: frozenset[str] = frozenset()
    corrections: frozenset[str] = frozenset()
    times: Mapping[str, str] = field(default_factory=dict)


class WrittenRegistry:
    """A registry whose versions predict what is given here.

    Args:
        folder: of its output.
    """

    def __init__(self, folder: Path) -> None:
        self.journal: Journal = open_local(folder)
        self._predicted: dict[tuple[int, bool], ComparedVersion] = {}
        self._learned: dict[int, LearnedLabels] = {}

    def register(
        self,
        learned: Labels,
        predicted: Labels | None = None,
        *,
        twin: Labels | None = None,
        classes: tuple[str, ...] = ("amber", "blue"),
        settings: str = "5" * 16,
    ) -> int:
        """Register a version; without predictions, a test fails in which it has to predict.

        Returns:
            its number.
        """
        number = len(self.journal.state().versions) + 1
        labels = LearnedLabels(classes, {content: (label,) for content, label in learned.items()})
        digest = labels.put(self.journal.store, self.journal.folder)
        made = replace(version(number, labels=digest), classes=classes, settings=settings)
        self.move(Registered(version=made))
        self._learned[number] = labels
        for is_twin, given in ((False, predicted), (True, twin)):
            if given is not None:
                scored = {content: ScoredLabel(label, 0.95) for content, label in given.items()}
                known = frozenset() if is_twin else frozenset(learned)
                self._predicted[number, is_twin] = ComparedVersion(frozenset(classes), known, scored)
        return number

    def promote(self, number: int, *, is_watched: bool = True) -> None:
        """Promote a version; the first one is not watched."""
        former = self.journal.state().production
        self.move(Promoted(version=number, former=former, is_watched=is_watched and former is not None))

    def move(self, move: Move) -> None:
        """Make a move."""
        self.journal.append(move, by="cron", why="", after=self.journal.state())

    def facts(
        self,
        evidence: Labels | None = None,
        *,
        labels: LearnedLabels | None = None,
        chosen: frozenset[str] = frozenset(),
        rules: Rules | None = None,
        acceptance: Acceptance = "gate",
    ) -> TurnFacts:
        """Return the facts of a turn.

        Args:
            evidence: labels of the ledger that may be evidence.
            labels: that the job learns from now; unless given, those of production and an image of two classes, which
                changes them and is looked at by nothing.
            chosen: contents that predictions chose.
            rules: of the job.
            acceptance: what a person accepts unseen.
        """
        state = self.journal.state()
        section = SimpleNamespace(archive_sample="keep")
        work = SimpleNamespace(job=SimpleNamespace(classifier=section), sample=None)
        facts = TurnFacts(
            cast(Classification, work), Reporter(), self.journal, rules or Rules(), acceptance, state, self._predicted
        )
        fresh = tuple(FreshLabel(content, label) for content, label in (evidence or {}).items())
        vars(facts)["evidence"] = WrittenEvidence(fresh, chosen)
        vars(facts)["labels"] = labels or _with_another_image(self._learned[state.production or 1])
        vars(facts)["settings"] = "5" * 16
        return facts


def _with_another_image(labels: LearnedLabels) -> LearnedLabels:
    return LearnedLabels(labels.classes, labels.of_content | {"another": labels.classes[:2]})


def some(first: int, count: int, label: str = "amber") -> dict[str, str]:
    """Labels of so many contents."""
    return {f"{number:03}": label for number in range(first, first + count)}
