"""The turn itself: look, compare, train what changed, decide, relabel. Run again after a kill, it goes on.

Evidence is not stored and added up: each turn computes it anew from the ledger and the versions, so that nothing can be
counted twice and a label that was corrected or undone counts as it is now. What a turn decided is in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cluster import Lease, Store
from cluster.storage.lease import acquire_lease
from fewshot.promotion import labels_needed, log_needed
from ray_jobs.classification.classify import Classification, FinishedClassification, classify
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ClipSection, Job, RetrainSection
from ray_jobs.labels.label_ledger import ledger_of_run
from ray_jobs.output.layout import LEASE
from ray_jobs.preflight import retrain_problems
from ray_jobs.registry.journal import Journal, RegistryMovedError
from ray_jobs.registry.moves import Version
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.registry_results import ChurnSummary, Outlook, RetrainResult, TurnStep
from ray_jobs.retraining.after_labelling import look_back
from ray_jobs.retraining.candidates import decide_candidate, drop_or_decide
from ray_jobs.retraining.fresh_labels import LabelComparison
from ray_jobs.retraining.training import accept_labels, train_if_due
from ray_jobs.retraining.turn import Decision, Rules
from ray_jobs.retraining.turn_facts import Acceptance, TurnFacts
from ray_jobs.retraining.turn_record import TurnRecord
from ray_jobs.retraining.versions import stored_classifier
from ray_jobs.retraining.watching import look_at_watched

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

GAINS = (0.01, 0.02, 0.04)
"""Of which the outlook tells how many labels they would take."""
NO_PRODUCTION = "nothing is in production"
TRIES = 3
"""Times that the archive is labelled anew because a person moved production meanwhile."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did.

    Attributes:
        decisions: in order, each with the version that it is about; None where it is about labels.
        trained: number of classifiers that were trained.
        state: of the registry after it.
        finished: the classification by production.
        comparison: of a candidate that waits with production; None without one.
        refused: whether labels wait that were refused.
        churn: labels that changed since the version before; None where there is none.
    """

    decisions: tuple[tuple[int | None, Decision], ...]
    trained: int
    state: RegistryState
    finished: FinishedClassification
    comparison: LabelComparison | None = None
    refused: bool = False
    churn: ChurnSummary | None = None

    def result(self, job: str, rules: Rules) -> RetrainResult:
        """Return what the command prints."""
        if self.state.production is None:
            raise JobError([NO_PRODUCTION])
        return RetrainResult(
            job=job,
            steps=tuple(TurnStep(version=number, step=each.step, why=each.why) for number, each in self.decisions),
            trained=self.trained,
            production=self.state.production,
            candidate=self.state.candidate,
            watched=self.state.shadow is not None,
            refused=self.refused,
            outlook=() if self.comparison is None else outlook_of(self.comparison, self.state, rules),
            complete=self.finished.metrics.complete,
            images=self.finished.metrics.images,
            did=self.finished.did,
            run=self.finished.run.url,
            report=self.finished.report,
            churn=self.churn,
        )


def outlook_of(compared: LabelComparison, state: RegistryState, rules: Rules) -> tuple[Outlook, ...]:
    """Return how many labels it would take to show gains of a candidate, at the disagreement so far."""
    found = compared.comparison
    share = (found.better + found.worse + 1) / (len(found.gains) + 2)
    needed, margin = log_needed(max(1, state.candidates), alpha=rules.alpha), rules.margin_for(state)
    return tuple(
        Outlook(gain=gain, labels=labels_needed(gain, disagreement=share, log_needed=needed, margin=margin))
        for gain in GAINS
    )


def retrain(job: Job, reporter: Reporter, *, by: str, acceptance: Acceptance = "gate") -> Turn:
    """Carry out one turn.

    Args:
        job: a job file with [archive] and [support].
        reporter: shows the progress.
        by: who or what does it, for the journal.
        acceptance: what a person accepts unseen, see `Acceptance`.

    Raises:
        JobError: the job cannot start, or asks for what retraining cannot do.
        LeaseHeldError: another process retrains the same job.
        RegistryMovedError: a person moved the registry meanwhile; nothing was promoted.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    if problems := list(retrain_problems(job)):
        raise JobError(problems)
    store = Store(job.job.output, storage=job.storage.resolve())
    journal = Journal(store, job.job.name)
    with acquire_lease(store, f"{journal.folder}/{LEASE}", term_s=job.storage.lease_s) as lease:
        with reporter.waiting("reading the labels and listing the archive"):
            work = Classification.from_job(job)
        _warn_of_unused_labels(work, reporter)
        facts = TurnFacts(work, reporter, journal, rules_of(job), acceptance, journal.state())
        turn = _carry_out(facts, TurnRecord(facts, by), lease)
        lease.check()
    return turn


def _carry_out(facts: TurnFacts, record: TurnRecord, lease: Lease) -> Turn:
    accept_labels(facts, record)
    look_at_watched(facts, record)
    drop_or_decide(facts, record)
    if train_if_due(facts, record, lease):
        decide_candidate(facts, record)
    finished, churn = _relabel(facts)
    return Turn(
        decisions=tuple(record.decisions),
        trained=record.trained,
        state=facts.state,
        finished=finished,
        comparison=record.comparison,
        refused=bool(facts.refused),
        churn=churn,
    )


def _warn_of_unused_labels(work: Classification, reporter: Reporter) -> None:
    """Say that the output has labels that the job does not learn from."""
    if work.job.support is None or work.job.support.labels:
        return
    if count := len(ledger_of_run(work.job, work.store).current().answers):
        hint = "set support.labels = true to learn from them"
        reporter.say(f"warning: the ledger has {count:,} labels, which are not used; {hint}", style="yellow")


def rules_of(job: Job) -> Rules:
    """Return the rules of a job file."""
    section = job.retrain or RetrainSection()
    return Rules(section.policy, section.margin, section.alpha, section.watch_labels, section.hold_labels)


def _relabel(facts: TurnFacts) -> tuple[FinishedClassification, ChurnSummary | None]:
    """Classify the archive with production and look back; again if a person moved production meanwhile."""
    for _ in range(TRIES):
        production = facts.production
        if production is None:
            raise JobError([NO_PRODUCTION])
        job = job_of_version(facts.work, production)
        finished = classify(job, facts.reporter, learned=_images_of(facts, production))
        churn = look_back(facts.journal, finished, facts.reporter, production.number)
        facts.state = facts.journal.state()
        if facts.state.production == production.number:
            return finished, churn
        facts.reporter.say(f"production was moved to version {facts.state.production} meanwhile")
    raise RegistryMovedError(["production was moved again and again while the archive was labelled; run again"])


def _images_of(facts: TurnFacts, version: Version) -> frozenset[str]:
    """References of the present examples that a version learned from."""
    learned = facts.learned(version).of_content
    digests = {} if facts.work.support is None else facts.work.support.digests
    return frozenset(image for image, digest in digests.items() if digest in learned)


def job_of_version(work: Classification, version: Version) -> Job:
    """Return the job that labels the archive with a version, on the backbone that this was trained on."""
    job = work.job
    section = replace(
        job.classifier, from_=work.store.url(version.folder), method="gda", hyperparameters={}, archive_sample="keep"
    )
    if dict(version.backbone) == job.clip.spec.identity():
        return replace(job, classifier=section)
    spec = stored_classifier(work.store, version).backbone(None)
    return replace(job, classifier=section, clip=ClipSection.from_spec(spec, templates=job.clip.templates))
