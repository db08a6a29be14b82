"""What a turn knows: labels, versions and what they predict. Everything is read once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from ray_jobs.classification.classify import Classification
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LabelDiff, LearnedLabels, diff_labels, read_learned_labels, renames_between
from ray_jobs.registry.moves import Accepted, Refused, Registered, Version
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.retraining.evidence_source import EvidenceSource
from ray_jobs.retraining.fresh_labels import ComparedVersion, FreshLabel
from ray_jobs.retraining.label_nights import Night, check_nights, earlier_labels, new_labels_by_night, without_accepted
from ray_jobs.retraining.turn import Rules
from ray_jobs.retraining.version_predictions import VersionPredictions
from ray_jobs.retraining.versions import labels_of, settings_of, twin_contents

LOOK_BACK = 3
"""Versions before production that are asked about labels that came earlier: each is a model to load."""
NO_SUPPORT = "retrain needs the section [support]"
KEPT = 4
"""Sets of labels that versions learned from and that stay in memory: production, its candidate, two to compare with."""
Acceptance = Literal["gate", "labels", "force"]
"""What is accepted unseen: nothing; labels that would be refused; or these, and the version that is trained."""


@dataclass
class TurnFacts:
    """What is known in a turn; each move changes the state.

    Attributes:
        work: the classification of the job.
        reporter: shows the progress.
        journal: of the registry.
        rules: of the job.
        acceptance: what a person accepts unseen.
        state: of the registry, now.
    """

    work: Classification
    reporter: Reporter
    journal: Journal
    rules: Rules
    acceptance: Acceptance
    state: RegistryState
    _predictions: dict[tuple[int, bool], ComparedVersion] = field(default_factory=dict)
    _labels_of: dict[str, LearnedLabels] = field(default_factory=dict)
    _checked_by: dict[tuple[int | None, int | None], list[Night]] = field(default_factory=dict)

    @cached_property
    def labels(self) -> LearnedLabels:
        """What is learned from now."""
        if self.work.support is None:
            raise JobError([NO_SUPPORT])
        return labels_of(self.work.support)

    @cached_property
    def settings(self) -> str:
        """With what is trained now, see `settings_of`."""
        return settings_of(self.work)

    @cached_property
    def evidence(self) -> EvidenceSource:
        """The labels of the ledger."""
        return EvidenceSource(self.work)

    @cached_property
    def _predictor(self) -> VersionPredictions:
        return VersionPredictions(self.work, self.reporter)

    @property
    def production(self) -> Version | None:
        """The version in production; None before the first promotion."""
        return None if self.state.production is None else self.state.version(self.state.production)

    def learned(self, version: Version) -> LearnedLabels:
        """What a version learned from."""
        return self._learned_labels(version.labels)

    def _learned_labels(self, digest: str) -> LearnedLabels:
        """Read labels, and keep the last few: those of all versions of a long watch would not fit into memory."""
        found = self._labels_of.pop(digest, None)
        if found is None:
            found = read_learned_labels(self.journal.store, self.journal.folder, digest)
        self._labels_of[digest] = found
        if len(self._labels_of) > KEPT:
            del self._labels_of[next(iter(self._labels_of))]
        return found

    def changes_since(self, version: Version) -> LabelDiff:
        """How the present labels differ from those that a version learned from."""
        return diff_labels(self.learned(version), self.labels)

    def names_of(self, version: Version) -> frozenset[str]:
        """The present names of the classes of a version."""
        renamed = self._renamed(version)
        return frozenset(renamed.get(name, name) for name in version.classes)

    def _renamed(self, version: Version) -> dict[str, str]:
        """The present names of classes that were renamed since, by the earlier ones."""
        return dict(renames_between(self.learned(version), self.labels))

    def compared(self, number: int, *, twin: bool = False) -> ComparedVersion:
        """A version, or its twin, with its predictions of the examples that it has not learned from."""
        if (number, twin) not in self._predictions:
            version = self.state.version(number)
            learned, renamed = self.learned(version), self._renamed(version)
            everything = twin_contents(learned) if twin else learned.of_content.keys()
            known = frozenset(content for content in self.labels.of_content if content in everything)
            version = replace(version, folder=version.twin) if twin else version
            contents = self.labels.of_content.keys() - known
            self._predictions[number, twin] = self._predictor.predict(version, known, renamed, contents)
        return self._predictions[number, twin]

    @property
    def refused(self) -> list[Night]:
        """Nights of labels that production has not learned from and that contradict it, unless they were accepted."""
        return [night for night in self.checked if night.is_refused]

    @property
    def checked(self) -> list[Night]:
        """Nights of labels that production has not learned from, compared with it, without those that were accepted."""
        compared = (self.state.production, self.state.shadow)
        if compared not in self._checked_by:
            self._checked_by[compared] = self._check_nights()
        return self._checked_by[compared]

    def labels_were_accepted(self) -> None:
        """Ask anew which labels are refused."""
        self._checked_by.clear()

    @property
    def newest_label(self) -> str:
        """Time of the newest label of the ledger; empty without any."""
        return max(self.evidence.times.values(), default="")

    def _check_nights(self) -> list[Night]:
        production = self.production
        if production is None or production.labels == self.labels.digest:
            return []
        moves = [each.move for each in self.journal.entries() if isinstance(each.move, Registered | Refused)]
        turns = sorted(move.newest_label for move in moves)
        nights = new_labels_by_night(self.labels, self.learned(production), self.evidence.times, turns)
        nights = without_accepted(nights, self._accepted(), self.labels)
        if not nights:
            return []
        shadow = [] if self.state.shadow is None else [self.state.version(self.state.shadow)]
        new = {content for night in nights.values() for content in night}
        versions = [
            (
                self.compared(each.number),
                None if new.isdisjoint(self.learned(each).of_content) else self.compared(each.number, twin=True),
            )
            for each in (production, *shadow)
        ]
        ledger = self.evidence.times.keys() - self.evidence.corrections
        earlier = earlier_labels(self.learned(production), self.labels, ledger, self._before(production))
        return check_nights(nights, versions, self.evidence.corrections, earlier)

    def _before(self, production: Version) -> Iterator[ComparedVersion]:
        """Versions with the same settings that production came from, the newest first, as far as they are there."""
        version = production
        for _ in range(LOOK_BACK):
            if version.parent is None or version.parent in self.state.pruned:
                return
            version = self.state.version(version.parent)
            if version.settings != production.settings:
                return
            try:
                yield self.compared(version.number)
            except JobError:
                return  # It is not needed: without it, less is known about scores.

    def _accepted(self) -> list[LearnedLabels]:
        """All labels that there were whenever a person accepted some."""
        moves = [found for each in self.journal.entries() if isinstance(found := each.move, Accepted)]
        return [self._learned_labels(move.labels) for move in moves]

    @property
    def fresh_labels(self) -> list[FreshLabel]:
        """Labels that may be evidence; those of refused nights are none."""
        refused = {content for night in self.refused for content in night.labels}
        return [each for each in self.evidence.labels if each.content not in refused]
