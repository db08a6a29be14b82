"""What follows a pass over the archive: what changed since the version before, and the reference for drift.

Neither can fail the turn, whose moves and predictions are stored: what goes wrong is logged, and done by a later turn
or command.
"""

from __future__ import annotations

import logging

from cluster.secrets import redacted
from ray_jobs.churn import ensure_churn
from ray_jobs.churn.churn_report import churn_page
from ray_jobs.classification.classify import FinishedClassification
from ray_jobs.console.progress import Reporter
from ray_jobs.drift import keep_reference
from ray_jobs.registry.journal import Journal
from ray_jobs.results.churn_result import Churn
from ray_jobs.results.registry_results import ChurnSummary
from ray_jobs.suggestion.embedded_run import EmbeddedRun

logger = logging.getLogger(__name__)


def look_back(
    journal: Journal, finished: FinishedClassification, reporter: Reporter, production: int
) -> ChurnSummary | None:
    """Keep a reference for drift, unless production has one, and compare the labels with those of the version before.

    Args:
        journal: of the registry.
        finished: the classification by the version in production.
        reporter: shows the progress.
        production: number of that version.

    Returns:
        what changed; None where there is nothing to compare with.
    """
    if not finished.metrics.complete:
        return None
    with reporter.waiting("keeping a sample of the archive, to see drift"):
        _keep_reference(journal, finished, production)
    with reporter.waiting("comparing the labels with those before"):
        churn = ensure_churn(journal, finished.run)
    return None if churn is None else _summary(churn, finished)


def _keep_reference(journal: Journal, finished: FinishedClassification, production: int) -> None:
    try:
        embedded = EmbeddedRun.open(finished.run.url, journal.store.storage)
        keep_reference(embedded, version=production)
    except Exception as error:  # the boundary between the turn and what is only looked at
        reason, is_debugging = redacted(f"{type(error).__name__}: {error}"), logger.isEnabledFor(logging.DEBUG)
        logger.warning("no drift reference run=%s error=%s", finished.run.name, reason, exc_info=is_debugging)


def _summary(churn: Churn, finished: FinishedClassification) -> ChurnSummary:
    return ChurnSummary(images=churn.images, flipped=churn.flipped, page=churn_page(finished.run))
