"""The turn itself: look, compare, train what changed, decide, relabel. Run again after a kill, it goes on.

Evidence is not stored and added up: each turn computes it anew from the ledger and the versions, so that nothing can be
counted twice and a label that was corrected or undone counts as it is now. What a turn decided is in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from cluster.storage.lease import acquire_lease
from fewshot.promotion import Comparison, GateResult, labels_needed, log_needed
from ray_jobs.classification.classify import (
    Classification,
    FinishedClassification,
    classify,
    embed_and_train,
    embed_images,
)
from ray_jobs.errors import JobError
from ray_jobs.inputs.examples import learned_labels, learned_ledger
from ray_jobs.job_file.sections import Job, RetrainSection
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.learned_labels import LearnedLabels, diff_labels, read_learned_labels
from ray_jobs.registry.moves import Compared, Confirmed, Evidence, Move, Promoted, Registered, Rejected, RolledBack
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.registry_results import Outlook, RetrainResult, TurnStep
from ray_jobs.retraining.fresh_labels import (
    ComparedVersion,
    EvidenceOf,
    FreshLabel,
    check_labels,
    compare,
    fresh_for,
    labels_for_evidence,
)
from ray_jobs.retraining.turn import Decision, Rules, decide_candidate, decide_new, decide_watch
from ray_jobs.retraining.versions import (
    is_held_back,
    labels_of,
    score,
    stored_classifier,
    version_of,
    without_held_back,
)

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

LEASE = "lease"
GAINS = (0.01, 0.02, 0.04)
"""Of which the outlook tells how many labels they would take."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did.

    Attributes:
        decisions: in order, each with the version that it is about.
        trained: number of classifiers that were trained.
        state: of the registry after it.
        finished: the classification by production.
        comparison: of a candidate that waits with production; None without one.
    """

    decisions: tuple[tuple[int, Decision], ...]
    trained: int
    state: RegistryState
    finished: FinishedClassification
    comparison: Comparison | None = None

    def result(self, job: str, rules: Rules) -> RetrainResult:
        """Return what the command prints."""
        assert self.state.production is not None
        return RetrainResult(
            job=job,
            steps=tuple(TurnStep(version=number, step=each.step, why=each.why) for number, each in self.decisions),
            trained=self.trained,
            production=self.state.production,
            candidate=self.state.candidate,
            watched=self.state.shadow is not None,
            outlook=() if self.comparison is None else outlook_of(self.comparison, self.state, rules),
            complete=self.finished.metrics.complete,
            images=self.finished.metrics.images,
            did=self.finished.did,
            run=self.finished.run.url,
            report=self.finished.report,
        )


def outlook_of(comparison: Comparison, state: RegistryState, rules: Rules) -> tuple[Outlook, ...]:
    """Return how many labels it would take to show gains of a candidate, at the disagreement so far."""
    differing = comparison.better + comparison.worse
    share = (differing + 1) / (len(comparison.gains) + 2)
    needed, margin = log_needed(max(1, state.candidates), alpha=rules.alpha), rules.margin_of_policy
    return tuple(
        Outlook(gain=gain, labels=labels_needed(gain, disagreement=share, log_needed=needed, margin=margin))
        for gain in GAINS
    )


def retrain(job: Job, reporter: Reporter, *, by: str) -> Turn:
    """Carry out one turn.

    Args:
        job: a job file with [archive] and [support].
        reporter: shows the progress.
        by: who or what does it, for the journal.

    Raises:
        JobError: the job cannot start, or names a stored classifier.
        LeaseHeldError: another process retrains the same job.
        RegistryMovedError: a person moved the registry meanwhile; nothing was promoted.
        ClusterError: storage or workers fail as a whole. Run again to resume.
    """
    if job.classifier.from_ is not None:
        raise JobError(["[classifier] from: retrain trains a classifier; remove the key, or use classify"])
    with reporter.waiting("reading the labels and listing the archive"):
        work = Classification.from_job(job)
    journal = Journal(work.store, job.job.name)
    with acquire_lease(work.store, f"{journal.folder}/{LEASE}", term_s=job.storage.lease_s) as lease:
        turn = _OneTurn(work, reporter, journal, by, rules_of(job), (job.retrain or RetrainSection()).evidence)
        done = turn.carry_out()
        lease.check()
    return done


def rules_of(job: Job) -> Rules:
    """Return the rules of a job file."""
    section = job.retrain or RetrainSection()
    return Rules(section.policy, section.margin, section.alpha, section.watch_labels)


@dataclass
class _OneTurn:
    work: Classification
    reporter: Reporter
    journal: Journal
    by: str
    rules: Rules
    of: EvidenceOf
    trained: int = 0
    comparison: Comparison | None = None
    decisions: list[tuple[int, Decision]] = field(default_factory=list)
    state: RegistryState = field(default_factory=RegistryState)

    def carry_out(self) -> Turn:
        self.state = self.journal.state()
        if self.state.shadow is not None or self._is_frozen:
            embed_images(self.work, self.reporter)
        if self.state.shadow is not None:
            self._judge_watch()
        if self._is_frozen:
            self._judge_candidate()
        if not self._is_frozen and self._is_new:
            self._train()
        return Turn(tuple(self.decisions), self.trained, self.state, self._relabel(), self.comparison)

    @cached_property
    def labels(self) -> LearnedLabels:
        """What is learned from now."""
        if self.work.support is None:
            raise JobError(["retrain needs the section [support]"])
        return labels_of(self.work.support)

    @property
    def _is_frozen(self) -> bool:
        """Whether a candidate waits for labels that decide about it."""
        return self.state.candidate is not None and self.state.production is not None

    @property
    def _is_new(self) -> bool:
        """Whether no version learned from these labels with these settings."""
        identity = self.work.training.identity
        name = f"{identity.method}/{identity.folder.rpartition('/')[2]}"
        return self.state.version_of(name, self.labels.digest) is None

    @cached_property
    def _evidence_labels(self) -> tuple[FreshLabel, ...]:
        """Labels of the ledger that may be evidence."""
        ledger = learned_ledger(self.work.job, self.work.store)
        if ledger is None or self.work.support is None:
            return ()
        return labels_for_evidence(learned_labels(ledger), self.work.support.digests, self.of)

    def _compared(self, number: int, *, twin: bool = False) -> ComparedVersion:
        """A version with its predictions of all examples."""
        version = self.state.version(number)
        learned = read_learned_labels(self.journal.store, self.journal.folder, version.labels)
        renamed = dict(diff_labels(learned, self.labels).renamed)
        contents = frozenset(self.labels.of_content)
        known = frozenset(learned.of_content)
        if twin:
            version, known = (
                replace(version, folder=version.twin),
                frozenset(filter(lambda each: not is_held_back(each), known)),
            )
        return score(self.work, stored_classifier(self.work.store, version), known, contents, renamed)

    def _judge_watch(self) -> None:
        state, store = self.state, self.journal
        assert state.shadow is not None
        assert state.production is not None
        assert state.watched_since is not None
        promoted = [
            entry.move.version
            for entry in store.entries()
            if entry.sequence >= state.watched_since and isinstance(entry.move, Promoted)
        ]
        chain = [self._compared(number) for number in promoted]
        comparison = compare(self._evidence_labels, chain, self._compared(state.shadow), self.of)
        decision = decide_watch(comparison, self.rules)
        move: Move
        match decision.step:
            case "roll back":
                move = RolledBack(
                    version=state.shadow,
                    former=state.production,
                    is_automatic=True,
                    evidence=evidence_of(comparison, decision.result),
                )
            case "confirm":
                move = Confirmed(version=state.production, evidence=evidence_of(comparison, decision.result))
            case _:
                move = Compared(
                    version=state.production, against=state.shadow, evidence=evidence_of(comparison, decision.result)
                )
        self._append(move, state.production, decision)

    def _judge_candidate(self) -> None:
        candidate, production = self.state.candidate, self.state.production
        assert candidate is not None
        assert production is not None
        comparison = compare(self._evidence_labels, [self._compared(candidate)], self._compared(production), self.of)
        decision = decide_candidate(comparison, self.state, self.rules)
        evidence = evidence_of(comparison, decision.result)
        moves: dict[str, Move] = {
            "promote": Promoted(version=candidate, former=production, evidence=evidence),
            "reject": Rejected(version=candidate, evidence=evidence),
            "hold": Compared(version=candidate, against=production, evidence=evidence),
        }
        self.comparison = comparison if decision.step == "hold" else None
        self._append(moves[decision.step], candidate, decision)

    def _train(self) -> None:
        was_there = self.work.training.find(self.work.store) is not None
        classifier = embed_and_train(self.work, self.reporter).classifier
        held = replace(self.work.training, support=without_held_back(self.work.training.support))
        twin_was_there = held.find(self.work.store) is not None
        twin = held.run(self.work.store)
        self.trained += (not was_there) + (not twin_was_there)
        number = len(self.state.versions) + 1
        digest = self.labels.put(self.work.store, self.journal.folder)
        production = self.state.production
        version = version_of(self.work, classifier, twin, number=number, labels=digest, parent=production)
        self._append(Registered(version=version), number, Decision("train", self._changes()))
        self._judge_new(number, production)

    def _judge_new(self, number: int, production: int | None) -> None:
        if production is None:
            decision = decide_new(None, None, self.rules)
            self._append(Promoted(version=number, former=None), number, decision)
            return
        current = self._compared(production)
        new_labels = check_labels(fresh_for(self._evidence_labels, [current]), current)
        examples = [
            FreshLabel(content, names[0], None)
            for content, names in sorted(self.labels.of_content.items())
            if len(names) == 1 and is_held_back(content)
        ]
        twins = self._compared(number, twin=True), self._compared(production, twin=True)
        held_back = compare(examples, [twins[0]], twins[1])
        decision = decide_new(new_labels, held_back, self.rules)
        if decision.step == "promote":
            self._append(Promoted(version=number, former=production, is_watched=True), number, decision)
        elif decision.step == "reject":
            self._append(Rejected(version=number), number, decision)
        else:
            self.decisions.append((number, decision))

    def _changes(self) -> str:
        """What changed since the version in production, in a sentence."""
        if self.state.production is None:
            return f"the first version, of {len(self.labels.of_content)} images"
        version = self.state.version(self.state.production)
        diff = diff_labels(read_learned_labels(self.journal.store, self.journal.folder, version.labels), self.labels)
        counts = f"{len(diff.added)} labels added, {len(diff.removed)} removed, {len(diff.relabelled)} changed"
        classes = [("new", diff.new_classes), ("removed", diff.removed_classes)]
        told = [f"{word}: {', '.join(names[:5])}" for word, names in classes if names]
        told += [f"{old} is now {new}" for old, new in diff.renamed]
        return "; ".join([counts, *told])

    def _append(self, move: Move, number: int, decision: Decision) -> None:
        """Make a move, unless it would only repeat a comparison without new labels."""
        if isinstance(move, Compared) and self._last_comparison(move) == move:
            return
        self.state = self.journal.append(move, by=self.by, why=decision.why, after=self.state)
        self.decisions.append((number, decision))
        self.reporter.say(f"version {number}: {decision.why}")

    def _last_comparison(self, like: Compared) -> Compared | None:
        """The last comparison of the same two versions."""
        pair = (like.version, like.against)
        moves = (entry.move for entry in reversed(self.journal.entries()))
        return next(
            (move for move in moves if isinstance(move, Compared) and (move.version, move.against) == pair), None
        )

    def _relabel(self) -> FinishedClassification:
        """Classify the archive with production."""
        assert self.state.production is not None
        job = self.work.job
        place = self.work.store.url(self.state.version(self.state.production).folder)
        section = replace(job.classifier, from_=place, method="gda", hyperparameters={}, archive_sample="keep")
        return classify(replace(job, classifier=section), self.reporter)


def evidence_of(comparison: Comparison, result: GateResult | None) -> Evidence:
    """Return the evidence of a decision, for the journal."""
    assert result is not None
    return Evidence(
        images=len(comparison.gains),
        better=comparison.better,
        worse=comparison.worse,
        log_evidence=result.log_evidence,
        log_harm=result.log_harm,
        log_needed=result.log_needed,
    )
