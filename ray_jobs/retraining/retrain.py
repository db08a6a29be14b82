"""The turn itself: look, compare, train what changed, decide, relabel. Run again after a kill, it goes on.

Evidence is not stored and added up: each turn computes it anew from the ledger and the versions, so that nothing can be
counted twice and a label that was corrected or undone counts as it is now. What a turn decided is in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from cluster import Lease, Store
from cluster.storage.lease import acquire_lease
from fewshot.promotion import labels_needed, log_needed
from ray_jobs.classification.classify import Classification, FinishedClassification, classify, embed_and_train
from ray_jobs.classification.unknown_plan import keep_known_examples
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ClipSection, Job, RetrainSection
from ray_jobs.labels.label_ledger import ledger_of_run
from ray_jobs.output.layout import LEASE
from ray_jobs.preflight import retrain_problems
from ray_jobs.registry.journal import Journal, RegistryMovedError
from ray_jobs.registry.learned_labels import LearnedLabels, diff_labels, read_learned_labels
from ray_jobs.registry.moves import (
    Compared,
    Confirmed,
    Evidence,
    Move,
    Promoted,
    Refused,
    Registered,
    Rejected,
    RolledBack,
    Version,
)
from ray_jobs.registry.registry_state import RegistryState
from ray_jobs.results.registry_results import ChurnSummary, Outlook, RetrainResult, TurnStep
from ray_jobs.retraining.after_labelling import look_back
from ray_jobs.retraining.evidence_source import EvidenceSource
from ray_jobs.retraining.fresh_labels import (
    ComparedVersion,
    FreshLabel,
    LabelComparison,
    compare,
    fresh_for,
    newest_without,
)
from ray_jobs.retraining.label_nights import Night, check_nights, new_labels_by_night, without_accepted
from ray_jobs.retraining.turn import (
    Decision,
    Rules,
    classes_of,
    decide_by_held_back,
    decide_frozen,
    decide_nights,
    decide_watch,
)
from ray_jobs.retraining.version_predictions import VersionPredictions
from ray_jobs.retraining.versions import (
    for_twin,
    is_held_back,
    labels_of,
    settings_of,
    stored_classifier,
    twin_contents,
    version_of,
)
from ray_jobs.steps.set_examples import keep_examples

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter

GAINS = (0.01, 0.02, 0.04)
"""Of which the outlook tells how many labels they would take."""
NO_SUPPORT = "retrain needs the section [support]"
NO_PRODUCTION = "nothing is in production"
Acceptance = Literal["gate", "labels", "force"]
"""What is accepted unseen: nothing; labels that would be refused; or these, and the version that is trained."""
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
        turn = _OneTurn(work, reporter, journal, by, rules_of(job), acceptance, lease)
        done = turn.carry_out()
        lease.check()
    return done


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


@dataclass
class _OneTurn:
    work: Classification
    reporter: Reporter
    journal: Journal
    by: str
    rules: Rules
    acceptance: Acceptance
    lease: Lease
    trained: int = 0
    comparison: LabelComparison | None = None
    decisions: list[tuple[int | None, Decision]] = field(default_factory=list)
    state: RegistryState = field(default_factory=RegistryState)
    _predictions: dict[tuple[int, bool], ComparedVersion] = field(default_factory=dict)
    _labels_of: dict[str, LearnedLabels] = field(default_factory=dict)
    _refused_by: dict[tuple[int | None, int | None], list[Night]] = field(default_factory=dict)

    def carry_out(self) -> Turn:
        self.state = self.journal.state()
        if self.state.shadow is not None:
            self._decide_watch()
        if self.state.candidate is not None:
            self._drop_or_decide()
        if self._is_due():
            self._train()
            self._decide_candidate()
        finished = self._relabel()
        churn = look_back(self.journal, finished, self.reporter, self.state.production or 0)
        refused = bool(self._refused)
        return Turn(tuple(self.decisions), self.trained, self.state, finished, self.comparison, refused, churn)

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
    def predictor(self) -> VersionPredictions:
        """Predicts examples by versions."""
        return VersionPredictions(self.work, self.reporter)

    @property
    def _production(self) -> Version | None:
        return None if self.state.production is None else self.state.version(self.state.production)

    def _learned(self, version: Version) -> LearnedLabels:
        if version.labels not in self._labels_of:
            found = read_learned_labels(self.journal.store, self.journal.folder, version.labels)
            self._labels_of[version.labels] = found
        return self._labels_of[version.labels]

    @property
    def _refused(self) -> list[Night]:
        """Nights of labels that production has not learned from and that contradict it; none if they are accepted."""
        compared = (self.state.production, self.state.shadow)
        if compared not in self._refused_by:
            self._refused_by[compared] = self._find_refused()
        return self._refused_by[compared]

    def _find_refused(self) -> list[Night]:
        production = self._production
        if production is None or self.acceptance != "gate" or production.labels == self.labels.digest:
            return []
        turns = [each.time for each in self.journal.entries() if isinstance(each.move, Registered | Refused)]
        nights = new_labels_by_night(self.labels, self._learned(production), self.evidence.times, turns)
        nights = without_accepted(nights, self._accepted())
        if not nights:
            return []
        shadow = [] if self.state.shadow is None else [self.state.version(self.state.shadow)]
        new = {content for night in nights.values() for content in night}
        versions = [
            (
                self._compared(each.number),
                None if new.isdisjoint(self._learned(each).of_content) else self._compared(each.number, twin=True),
            )
            for each in (production, *shadow)
        ]
        return check_nights(nights, versions, self.evidence.corrections)

    def _accepted(self) -> list[LearnedLabels]:
        """Labels that a person accepted, by the versions that learned from them."""
        moves = [found for each in self.journal.entries() if isinstance(found := each.move, Registered)]
        return [self._learned(move.version) for move in moves if move.is_accepted]

    def _fresh_labels(self) -> list[FreshLabel]:
        """Labels that may be evidence; those of refused nights are none."""
        refused = {content for night in self._refused for content in night.labels}
        return [each for each in self.evidence.labels if each.content not in refused]

    def _compared(self, number: int, *, twin: bool = False) -> ComparedVersion:
        """A version, or its twin, with its predictions of the examples that it has not learned from."""
        if (number, twin) not in self._predictions:
            version = self.state.version(number)
            learned = self._learned(version)
            known = twin_contents(learned) if twin else learned.of_content.keys()
            version = replace(version, folder=version.twin) if twin else version
            renamed = self._renamed(learned)
            contents = self.labels.of_content.keys() - known
            self._predictions[number, twin] = self.predictor.predict(version, known, renamed, contents)
        return self._predictions[number, twin]

    def _decide_watch(self) -> None:
        state, production = self.state, self._production
        if state.shadow is None or production is None:
            return
        oldest = state.version(state.watched[0]) if len(state.watched) > 1 else production
        if all(label.content in self._learned(oldest).of_content for label in self.evidence.labels):
            return  # No label came later, and no model need be loaded to know it.
        labels = self._fresh_labels()
        chain = self._chain(labels)
        former = (state.shadow, *state.watched)[-2]
        own = compare(labels, chain[-1:], self._compared(former))
        whole = None if len(chain) == 1 else compare(labels, chain, self._compared(state.shadow))
        decision, of_chain = decide_watch(own, whole, self.rules)
        last = of_chain or decision
        if of_chain is not None and of_chain.step == "roll back":
            self._roll_back(state.shadow, of_chain)
        elif decision.step == "roll back":
            self._roll_back(former, decision)
        elif last.step == "confirm" and last.compared is not None:
            enough = last.compared.watched_enough(self.rules.watch_labels) or len(chain)
            self._append(Confirmed(version=state.watched[enough - 1], evidence=evidence_of(last)), last)
        else:
            for against, each in ((former, decision), (state.shadow, of_chain)):
                if each is not None:
                    evidence = evidence_of(each)
                    self._append(Compared(version=production.number, against=against, evidence=evidence), each)

    def _chain(self, labels: list[FreshLabel]) -> list[ComparedVersion]:
        """The watched versions; only those to which labels came predict anything."""
        versions = [self.state.version(number) for number in self.state.watched]
        learned = [self._learned(version).of_content.keys() for version in versions]
        came = {newest_without(label.content, learned) for label in labels}
        return [
            self._compared(version.number) if at in came else ComparedVersion(self._names_of(version), learned[at], {})
            for at, version in enumerate(versions)
        ]

    def _names_of(self, version: Version) -> frozenset[str]:
        """The present names of the classes of a version."""
        renamed = self._renamed(self._learned(version))
        return frozenset(renamed.get(name, name) for name in version.classes)

    def _renamed(self, learned: LearnedLabels) -> dict[str, str]:
        """The present names of classes that were renamed since, by the earlier ones."""
        return dict(diff_labels(learned, self.labels).renamed)

    def _roll_back(self, to: int, decision: Decision) -> None:
        if self.state.production is None:
            raise JobError([NO_PRODUCTION])
        move = RolledBack(version=to, former=self.state.production, is_automatic=True, evidence=evidence_of(decision))
        self._append(move, decision)

    def _drop_or_decide(self) -> None:
        """Reject a candidate that was trained for what no longer holds; otherwise ask the gate about it."""
        if self.state.candidate is None:
            return
        candidate = self.state.version(self.state.candidate)
        if why := self._outlived(candidate):
            self._append(Rejected(version=candidate.number), Decision("reject", why))
        elif self.acceptance != "force" or candidate.labels == self.labels.digest:
            self._decide_candidate()

    def _outlived(self, candidate: Version) -> str:
        """Why a candidate is of no use any more; empty if it is."""
        if candidate.settings != self.settings:
            return "the settings of the job changed since it was trained"
        diff = diff_labels(self._learned(candidate), self.labels)
        if diff.removed or diff.relabelled or diff.removed_classes:
            return f"{len(diff.removed) + len(diff.relabelled):,} labels that it learned from were corrected or undone"
        return ""

    def _decide_candidate(self) -> None:
        """Ask the gate about the candidate. What it says follows from what is stored, so a turn may be ended before."""
        number, production = self.state.candidate, self._production
        if number is None:
            return
        if production is None:
            self._promote(number, Decision("promote", "the first version"))
            return
        if self.acceptance == "force":
            self._promote(number, Decision("promote", "by force, without asking the gate"), is_forced=True)
            return
        decision = self._decision_about(self.state.version(number), production)
        if decision.step == "promote":
            self._promote(number, decision)
        elif decision.step == "reject":
            self._append(Rejected(version=number, evidence=evidence_of(decision)), decision)
        else:
            self.comparison = decision.compared
            evidence = evidence_of(decision)
            self._append(Compared(version=number, against=production.number, evidence=evidence), decision)

    def _decision_about(self, candidate: Version, production: Version) -> Decision:
        new_classes = self._new_classes(candidate, production)
        if self.rules.is_frozen(self.state) and (self.state.fell_back or not new_classes):
            chain, labels = [self._compared(candidate.number)], self._fresh_labels()
            compared = compare(labels, chain, self._compared(production.number))
            if compared.labels:
                return decide_frozen(compared, self.state, self.rules)
            new_classes = ()
        learned, chosen = self._learned(candidate), self.evidence.chosen
        examples = [
            FreshLabel(content, names[0])
            for content, names in sorted(self.labels.of_content.items())
            if len(names) == 1 and is_held_back(content) and content in learned.of_content and content not in chosen
        ]
        twins = [self._compared(each.number, twin=True) for each in (candidate, production)]
        return decide_by_held_back(compare(examples, twins[:1], twins[1]), self.state, self.rules, new_classes)

    def _new_classes(self, candidate: Version, production: Version) -> tuple[str, ...]:
        """Classes of a candidate that production does not know, and that are not known by another name."""
        return diff_labels(self._learned(production), self._learned(candidate)).new_classes

    def _promote(self, number: int, decision: Decision, *, is_forced: bool = False) -> None:
        former = self.state.production
        is_watched = former is not None and not is_forced and decision.basis == "held-back examples"
        evidence = None if decision.result is None else evidence_of(decision)
        move = Promoted(version=number, former=former, is_watched=is_watched, is_forced=is_forced, evidence=evidence)
        self._append(move, decision)

    def _is_due(self) -> bool:
        """Whether a version is to be trained from the present labels."""
        state = self.state
        if refused := self._refused:
            self._refuse(refused)
            return False
        known = state.version_of(self.settings, self.labels.digest)
        if known is not None and not self._renews(known):
            return self.acceptance == "force" and known.number not in (state.production, state.candidate)
        if state.candidate is None or self.acceptance == "force":
            return True
        diff = diff_labels(self._learned(state.version(state.candidate)), self.labels)
        return bool(diff.new_classes) or not self._is_compared(state.candidate)

    def _renews(self, known: Version) -> bool:
        """Whether a new sample of the archive is asked for, and a version learned from another one."""
        sample = self.work.sample
        is_asked = self.work.job.classifier.archive_sample == "renew"
        return is_asked and sample is not None and sample.name != known.archive_sample

    def _is_compared(self, candidate: int) -> bool:
        """Whether any label is evidence about a candidate: without one it need not be kept for more of them."""
        versions = [self._compared(each) for each in (candidate, self.state.production) if each is not None]
        return bool(fresh_for(self._fresh_labels(), versions))

    def _refuse(self, nights: list[Night]) -> None:
        """Note that labels were refused, once for the same labels."""
        decision = decide_nights(nights)
        self.decisions.append((None, decision))
        if self.state.refused == self.labels.digest:
            return
        found = [each.found for each in nights]
        move = Refused(
            labels=self.labels.digest,
            days=tuple(dict.fromkeys(each.day for each in nights)),
            images=sum(each.labels for each in found),
            agreeing=sum(each.agreeing for each in found),
            expected=sum(each.expected for each in found),
            classes=classes_of(nights),
        )
        self.state = self.journal.append(move, by=self.by, why=decision.why, after=self.state)

    def _train(self) -> None:
        """Train a version and its twin, as far as they are not there, and register it."""
        was_there = self.work.training.find(self.work.store) is not None
        classifier = embed_and_train(self.work, self.reporter).classifier
        keep_examples(self.work.store, classifier, self.work.training)  # A later job may ask for label sets,
        keep_known_examples(self.work.store, classifier, self.work.training.support)  # or test unknown images.
        held = replace(self.work.training, support=for_twin(self.work.training.support))
        twin_was_there = held.find(self.work.store) is not None
        twin = held.run(self.work.store)
        self.trained += (not was_there) + (not twin_was_there)
        number = len(self.state.versions) + 1
        digest = self.labels.put(self.work.store, self.journal.folder)
        production = self.state.production
        version = version_of(self.work, classifier, twin, number=number, labels=digest, parent=production)
        self.lease.check()  # Without it, what was found might be pruned at this moment.
        is_accepted = self.acceptance != "gate"
        self._append(Registered(version=version, is_accepted=is_accepted), Decision("train", self._changes(version)))

    def _changes(self, version: Version) -> str:
        """What changed since the version in production, in a sentence."""
        if (production := self._production) is None:
            return f"the first version, of {len(self.labels.of_content):,} images"
        diff = diff_labels(self._learned(production), self.labels)
        counts = f"{len(diff.added):,} labels added, {len(diff.removed):,} removed, {len(diff.relabelled):,} changed"
        classes = [("new", diff.new_classes), ("removed", diff.removed_classes)]
        told = [f"{word}: {', '.join(names[:5])}" for word, names in classes if names]
        told += [f"{old} is now {new}" for old, new in diff.renamed]
        told += ["labels were accepted that contradict production"] * (self.acceptance == "labels")
        told += ["another backbone"] * (dict(version.backbone) != dict(production.backbone))
        if diff.is_empty and not told[len(diff.renamed) :]:
            told.append("other settings")
        return "; ".join([counts, *told])

    def _append(self, move: Move, decision: Decision) -> None:
        """Make a move, unless it would only repeat a comparison, or tell one of no label."""
        number = move.version.number if isinstance(move, Registered) else getattr(move, "version", None)
        if isinstance(move, RolledBack):
            number = move.former
        if isinstance(move, Compared) and (not move.evidence.images or self._is_known(move)):
            if self.comparison is not None:
                self.decisions.append((number, decision))
            return
        self.state = self.journal.append(move, by=self.by, why=decision.why, after=self.state)
        self.decisions.append((number, decision))

    def _is_known(self, move: Compared) -> bool:
        """Whether the last comparison with a version came to the same, so that no label came since."""
        same = {move.version, *self.state.watched} if move.version in self.state.watched else {move.version}
        moves = [found for each in self.journal.entries() if isinstance(found := each.move, Compared)]
        compared = (each for each in reversed(moves) if each.against == move.against and each.version in same)
        last = next(compared, None)
        return last is not None and _counts_of(last.evidence) == _counts_of(move.evidence)

    def _relabel(self) -> FinishedClassification:
        """Classify the archive with production; again if a person moved it meanwhile."""
        for _ in range(TRIES):
            production = self._production
            if production is None:
                raise JobError([NO_PRODUCTION])
            job = job_of_version(self.work, production)
            finished = classify(job, self.reporter, learned=self._images_of(production))
            self.state = self.journal.state()
            if self.state.production == production.number:
                return finished
            self.reporter.say(f"production was moved to version {self.state.production} meanwhile")
        raise RegistryMovedError(["production was moved again and again while the archive was labelled; run again"])

    def _images_of(self, version: Version) -> frozenset[str]:
        """References of the present examples that a version learned from."""
        learned = self._learned(version).of_content
        digests = {} if self.work.support is None else self.work.support.digests
        return frozenset(image for image, digest in digests.items() if digest in learned)


def _counts_of(evidence: Evidence) -> tuple[object, ...]:
    return evidence.images, evidence.better, evidence.worse, evidence.basis


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


def evidence_of(decision: Decision) -> Evidence:
    """Return the evidence of a decision, for the journal.

    Raises:
        ValueError: it rests on none.
    """
    result, compared = decision.result, decision.compared
    if result is None or compared is None:
        raise ValueError(f"no evidence for: {decision.why}")
    return Evidence(
        images=len(compared.labels),
        better=compared.comparison.better,
        worse=compared.comparison.worse,
        log_evidence=result.log_evidence,
        log_harm=result.log_harm,
        log_needed=result.log_needed,
        basis=decision.basis,
    )
