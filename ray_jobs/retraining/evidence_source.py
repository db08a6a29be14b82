"""The labels of a job's ledger, as evidence."""

from __future__ import annotations

from dataclasses import dataclass

from ray_jobs.audit.stored_draw import StoredSample, find_sample, sample_path, sample_sizes
from ray_jobs.classification.classify import Classification
from ray_jobs.inputs.examples import learned_labels, learned_ledger
from ray_jobs.job_file.sections import RetrainSection
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.retraining.fresh_labels import EvidenceLabels, corrections, labels_for_evidence


@dataclass(frozen=True)
class EvidenceSource:
    """Reads the ledger that a job learns from.

    Attributes:
        work: the classification of the job.
    """

    work: Classification

    def labels(self) -> EvidenceLabels:
        """Return the labels that may be evidence; none without a ledger.

        Raises:
            JobError: the ledger is damaged, or lacks copies.
            StorageError: storage does not respond.
        """
        ledger = learned_ledger(self.work.job, self.work.store)
        if ledger is None or self.work.support is None:
            return EvidenceLabels()
        current = ledger.current()
        of = (self.work.job.retrain or RetrainSection()).evidence
        samples = self._samples(current) if of == "audit" else None
        archive = self.work.source.identity
        return labels_for_evidence(current, self.work.support.digests, archive=archive, samples=samples)

    def corrections(self) -> frozenset[str]:
        """Return the contents of images that were labelled because production was wrong. Raises as `labels`."""
        ledger = learned_ledger(self.work.job, self.work.store)
        if ledger is None or self.work.support is None:
            return frozenset()
        return corrections(learned_labels(ledger), self.work.support.digests)

    def _samples(self, current: CurrentLabels) -> dict[str, StoredSample]:
        """The largest sample of each draw that was answered; a draw that is gone is no evidence."""
        found = {}
        for draw in current.draws:
            sizes = sample_sizes(self.work.store, draw)
            sample = find_sample(self.work.store, sample_path(draw, sizes[-1])) if sizes else None
            if sample is not None:
                found[draw] = sample
        return found
