"""What follows a pass over the archive: what changed since the version before, and the reference for drift.

Neither can fail the turn, whose moves and predictions are stored: what goes wrong is logged, and done by a later turn
or command.
"""

from __future__ import annotations

import logging

from cluster.errors import ClusterError
from cluster.secrets import redacted
from ray_jobs.churn import ensure_churn
from ray_jobs.churn.churn_report import churn_page
from ray_jobs.classification.classify import FinishedClassification
from ray_jobs.console.progress import Reporter
from ray_jobs.drift import keep_reference
from ray_jobs.errors import JobError
from ray_jobs.registry.journal import Journal
from ray_jobs.results.churn_result import Churn
from ray_jobs.results.registry_results import ChurnSummary
from ray_jobs.suggestion.embedded_run import EmbeddedRun

logger = logging.getLogger(__name__)


def look_back(journal: Journal, finished: FinishedClassification, reporter: Reporter) -> ChurnSummary | None:
    """Keep a reference for drift, unless production has one, and compare the labels with those of the version before.

    Args:
        journal: of the registry.
        finished: the classification by the version in production.
        reporter: shows the progress.

    Returns:
        what changed; None where there is nothing to compare with.
    """
    if not finished.metrics.complete:
        return None
    with reporter.waiting("keeping a sample of the archive, to see drift"):
        _keep_reference(journal, finished)
    with reporter.waiting("comparing the labels with those before"):
        churn = ensure_churn(journal, finished.run)
    return None if churn is None else _summary(churn, finished)


def _keep_reference(journal: Journal, finished: FinishedClassification) -> None:
    try:
        embedded = EmbeddedRun.open(finished.run.url, journal.store.storage)
        keep_reference(embedded, version=journal.state().production)
    except (JobError, ClusterError, OSError) as error:
        logger.warning("no reference for drift run=%s error=%s", finished.run.name, redacted(str(error)))


def _summary(churn: Churn, finished: FinishedClassification) -> ChurnSummary:
    return ChurnSummary(images=churn.images, flipped=churn.flipped, page=churn_page(finished.run))
