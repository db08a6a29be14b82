"""The labels of a job's ledger, as evidence."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cluster import Store
from ray_jobs.audit.stored_draw import StoredSample, find_sample, sample_path, sample_sizes
from ray_jobs.classification.classify import Classification
from ray_jobs.inputs.examples import learned_ledger
from ray_jobs.job_file.sections import RetrainSection
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.labels.kept_images import kept_reference
from ray_jobs.labels.label_event import LabelEvent
from ray_jobs.labels.label_ledger import LabelLedger
from ray_jobs.retraining.fresh_labels import FreshLabel, labels_for_evidence


@dataclass(frozen=True)
class EvidenceSource:
    """Reads the ledger that a job learns from, once.

    Attributes:
        work: the classification of the job.
    """

    work: Classification

    @cached_property
    def labels(self) -> tuple[FreshLabel, ...]:
        """The labels that may be evidence; none without a ledger.

        Raises:
            JobError: the ledger is damaged.
            StorageError: storage does not respond.
        """
        of = (self.work.job.retrain or RetrainSection()).evidence
        archive, samples = self.work.source.identity, self._samples
        return labels_for_evidence(self._current, self._digests, archive=archive, samples=samples, of=of)

    @cached_property
    def corrections(self) -> frozenset[str]:
        """The contents of images that were labelled because production was wrong."""
        return frozenset(content for content, event in self._events.items() if event.reason == "correction")

    @cached_property
    def chosen(self) -> frozenset[str]:
        """The contents of labelled images that were chosen by predictions, so that they are no evidence."""
        return frozenset(self._events.keys() - {label.content for label in self.labels})

    @cached_property
    def times(self) -> dict[str, str]:
        """When each content got its label, UTC."""
        return {content: event.time for content, event in self._events.items()}

    @cached_property
    def _events(self) -> dict[str, LabelEvent]:
        """The latest label of each content."""
        events = sorted(self._current.answers.values(), key=lambda event: (event.time, event.id))
        found = {self._digests.get(kept_reference(event), ""): event for event in events if event.answer == "label"}
        return {content: event for content, event in found.items() if content}

    @cached_property
    def _ledger(self) -> LabelLedger | None:
        return learned_ledger(self.work.job, self.work.store)

    @cached_property
    def _current(self) -> CurrentLabels:
        return CurrentLabels() if self._ledger is None else self._ledger.current()

    @property
    def _digests(self) -> Mapping[str, str]:
        """Digest of the content of each image; asked for once an image, so nothing is copied."""
        return {} if self.work.support is None else self.work.support.digests

    @cached_property
    def _samples(self) -> dict[str, StoredSample]:
        """The largest sample of each draw that was answered; it lies in the output that has the ledger."""
        if self._ledger is None:
            return {}
        folder = self._ledger.store
        output, found = Store(posixpath.dirname(folder.root.rstrip("/")), storage=folder.storage), {}
        for draw in self._current.draws:
            sizes = sample_sizes(output, draw)
            sample = find_sample(output, sample_path(draw, sizes[-1])) if sizes else None
            if sample is not None:
                found[draw] = sample
        return found
