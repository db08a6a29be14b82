"""Check everything a job names before anything runs, and collect what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from cluster import Storage, Store
from cluster.errors import ClusterError
from cluster.records import archive_folder
from cluster.records.reading import first_look
from cluster.storage.settings import DEFAULT_STORAGE, S3_SCHEMES
from fewshot.classes import LabelSpace
from fewshot.errors import FewShotError, UnknownNameError
from fewshot.methods import METHODS, build_diffusion_scorer, build_method, needs_of
from fewshot.methods.table import uses_text
from ray_jobs.classification.unknown_plan import check_every_class, check_known_examples
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.inputs.examples import (
    Labels,
    learned_labels,
    learned_ledger,
    read_splits,
    space_with_prompts,
    support_labels,
)
from ray_jobs.inputs.ground_truth import read_given_labels
from ray_jobs.inputs.validation_examples import validation_labels
from ray_jobs.job_file.command_needs import ScheduledCommand
from ray_jobs.job_file.limits import shortened
from ray_jobs.job_file.reading import STAND_INS
from ray_jobs.job_file.sections import EscalateSection, Job, SupportSection
from ray_jobs.labels.label_ledger import LabelLedger
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.layout import INTERACTIVE, RUNS
from ray_jobs.output.new_files import lies_inside, real_place

_ADDRESS = re.compile(r"auto|(ray://)?(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]\0]{1,255}):\d{1,5}")

PROBLEMS = (FewShotError, ClusterError, JobError, ValueError, OSError)
T = TypeVar("T")


class Check(NamedTuple):
    """A check of a key of the job file.

    Attributes:
        where: the key.
        attempt: raises where it is wrong.
        place: the path or URL that is looked at; None if none is.
    """

    where: str
    attempt: Callable[[], object]
    place: str | None = None

    @property
    def needs_s3(self) -> bool:
        """Whether the S3 server must respond."""
        return self.place is not None and "://" in self.place and self.place.partition("://")[0] in S3_SCHEMES


def check(job: Job, needs: Sequence[str]) -> list[str]:
    """Find problems in what the sections name; a section that is missing or wrong was reported when it was read.

    Loads no weights and no torch, so that a finished job is recognised in a second or two.

    Args:
        job: as far as its sections are right.
        needs: sections that the command uses.
    """
    problem = _problem("[storage]", lambda: job.storage.resolve().check_endpoint())
    storage = DEFAULT_STORAGE if problem is not None else job.storage.resolve()
    is_unknown = problem is not None or "storage" in job.wrong
    found = [] if problem is None else [problem]
    for check in _checks(job, needs, storage):
        if is_unknown and check.needs_s3:
            continue  # Without the endpoint requests would go to AWS, signed with the credentials of another server.
        if (reason := _problem(check.where, check.attempt)) is not None:
            found.append(reason)
    return found


def _checks(job: Job, needs: Sequence[str], storage: Storage) -> Iterator[Check]:
    output, images = job.job.output, _image_folders(job, needs, storage)
    yield Check(
        "[job] output", lambda: _check_output(Store(output, storage=storage, retry=INTERACTIVE), images), output
    )
    if job.classifier.from_ is None or job.clip_given is not None:
        yield Check("[clip] model", job.clip.spec.check)
    if (archive := job.archive) is not None and "archive" in needs:
        yield Check("[archive] uri", lambda: open_archive(archive, storage), archive.uri)
        if (labels := archive.labels) is not None:
            yield Check("[archive] labels", lambda: read_given_labels(archive, storage), labels)
    yield from _labelled_checks(job, needs, storage)
    yield from _classifier_checks(job, needs, storage)
    if (address := job.cluster.address) is not None:
        yield Check("[cluster] address", lambda: _check_address(address))
    if (escalate := job.escalate) is not None and _escalates(job, needs):
        yield Check("[escalate] model", escalate.spec.check)
        if job.classifier.max_error_from == "audit" and "archive" in needs:
            yield Check("[classifier] max_error_from", _refuse_audited_escalation)
        if job.classifier.guarantee is not None and "archive" in needs:
            yield Check("[classifier] guarantee", _refuse_escalated_sets)
        if escalate.hyperparameters:
            yield Check("[escalate] hyperparameters", lambda: check_escalation_method(escalate))


def _labelled_checks(job: Job, needs: Sequence[str], storage: Storage) -> Iterator[Check]:
    """Yield the checks of labelled images: [support] and [evaluate]."""
    if (support := job.support) is not None and "support" in needs:
        if _trains_on_examples(job):
            yield from _support_checks(job, support, storage)
        else:
            yield Check("[support]", _refuse_unused_examples)
    if (evaluation := job.evaluate) is not None and "evaluate" in needs:
        splits = cache(partial(read_splits, evaluation.splits, evaluation.images, storage))
        yield Check("[evaluate] splits", splits, evaluation.splits)
        if support is not None and (prompts := support.prompts) is not None:
            check_prompts = partial(_check_prompts, lambda: splits()[0].label_space, prompts, storage)
            yield Check("[support] prompts", check_prompts, prompts)
        for name in evaluation.methods:
            yield Check("[evaluate] methods", lambda name=name: check_method(name))  # type: ignore[misc]
            yield Check("[evaluate] methods", lambda name=name: _check_backbone(job, name, {}))  # type: ignore[misc]
        if not job.clip.has_text and evaluation.protocol != "few-shot":
            yield Check("[evaluate] protocol", _refuse_classes_without_examples)


def _support_checks(job: Job, support: SupportSection, storage: Storage) -> Iterator[Check]:
    """Yield the checks of examples that are trained on."""
    ledger = cache(partial(_checked_ledger, job))
    if support.labels:
        place = job.job.output if support.labels is True else support.labels
        yield Check("[support] labels", ledger, place)
    without_prompts = replace(support, prompts=None)
    labels = cache(lambda: support_labels(without_prompts, storage, ledger=_if_right(ledger)))
    yield Check("[support] uri", lambda: _check_examples(job, labels()), support.uri)
    if (validation := support.validation) is not None:
        yield Check("[support] validation", lambda: _check_validation(support, labels, storage), validation)
    if (prompts := support.prompts) is not None:
        yield Check("[support] prompts", lambda: _check_prompts(lambda: labels().space, prompts, storage), prompts)


def _checked_ledger(job: Job) -> LabelLedger | None:
    output = Store(job.job.output, storage=job.storage.resolve())
    if (ledger := learned_ledger(job, output)) is not None:
        learned_labels(ledger)
    return ledger


def _check_validation(support: SupportSection, read_labels: Callable[[], Labels], storage: Storage) -> None:
    if (labels := _if_right(read_labels)) is not None:
        validation_labels(support, labels.space, storage)


def _check_prompts(read_space: Callable[[], LabelSpace], prompts: str, storage: Storage) -> None:
    if (space := _if_right(read_space)) is not None:
        space_with_prompts(space, prompts, storage)


def _if_right(read: Callable[[], T]) -> T | None:
    """Return what is read; None if it cannot be, which is reported as a problem of its own key."""
    try:
        return read()
    except PROBLEMS:
        return None


def _classifier_checks(job: Job, needs: Sequence[str], storage: Storage) -> Iterator[Check]:
    section = job.classifier
    if (stored := section.from_) is None:
        yield Check("[classifier] method", lambda: check_method(section.method, **section.hyperparameters))
        if "evaluate" not in needs:
            yield Check("[classifier] method", lambda: _check_backbone(job, section.method, section.hyperparameters))
        if "diffusion" in needs_of(section.method, section.hyperparameters):
            yield Check("[diffusion] model", job.diffusion.spec.check)
    elif "evaluate" in needs:
        yield Check("[classifier] from", _refuse_evaluation)
    else:
        yield Check("[classifier] from", lambda: _check_stored(job, stored, storage), stored)


def _check_backbone(job: Job, method: str, hyperparameters: Mapping[str, Any]) -> None:
    """Raise if a method needs text, or one model, and the backbone has none, or two."""
    if job.clip.beside is not None and (needs := needs_of(method, hyperparameters)):
        raise ValueError(
            f"{method!r} learns inside a model (it needs {', '.join(sorted(needs))}), and [clip.beside] puts two side "
            "by side. Use a method that learns from features alone, or remove [clip.beside]"
        )
    if not job.clip.has_text and uses_text(method, hyperparameters):
        others = ", ".join(name for name, info in METHODS.items() if not info.uses_text)
        raise ValueError(
            f"{method!r} uses the names of classes, and the model {job.clip.model!r} embeds images only. Use a method "
            f"without text ({others}), or a CLIP"
        )


def _check_examples(job: Job, labels: Labels) -> None:
    """Raise if the examples leave a class without any that must have one."""
    if not job.clip.has_text and not all(labels.counts.values()):
        _refuse_classes_without_examples()
    if job.classifier.unknown:
        check_every_class(labels.counts)


def _refuse_classes_without_examples() -> None:
    raise ValueError(
        "a class without examples is known by its name alone, which takes a CLIP: the model under [clip] embeds images "
        "only"
    )


def _check_stored(job: Job, stored: str, storage: Storage) -> None:
    """Raise unless the stored classifier can be used; a backbone that is not there is a problem of [clip]."""
    classifier = open_classifier(stored, storage)
    if (given := job.clip_given) is None or _problem("[clip] model", given.check) is None:
        classifier.backbone(given)
    if job.classifier.unknown:
        check_known_examples(classifier)


def _check_address(address: str) -> None:
    if not _ADDRESS.fullmatch(address):
        raise ValueError(
            f'expected "auto" on a node of the cluster, "host:port" or "ray://host:port", got {shortened(address)}'
        )


def _refuse_evaluation() -> None:
    raise ValueError("an evaluation trains its classifiers from the splits; remove from")


def _refuse_audited_escalation() -> None:
    raise ValueError(
        "an audit says nothing of what a diffusion model decides, which has other labels. Remove max_error_from, or"
        " [escalate]"
    )


def _refuse_escalated_sets() -> None:
    raise ValueError(
        "no label set covers what a diffusion model decides: an image would have its label, and a set that may lack it."
        " Remove guarantee, or [escalate]"
    )


def _refuse_unused_examples() -> None:
    raise ValueError(
        "[classifier] from names a stored classifier, which is not trained on examples: remove [support], or remove "
        "from to train on them"
    )


def _trains_on_examples(job: Job) -> bool:
    """Whether examples are trained on: not with a stored classifier, unless [escalate] does."""
    return job.classifier.from_ is None or job.escalate is not None


def _escalates(job: Job, needs: Sequence[str]) -> bool:
    """Whether [escalate] plays a part."""
    measured = "evaluate" in needs and job.evaluate is not None and job.evaluate.protocol == "few-shot"
    return "archive" in needs or measured


def _image_folders(job: Job, needs: Sequence[str], storage: Storage) -> list[str]:
    """Folders and URLs whose files are images to the job."""
    sections = [getattr(job, name) for name in ("archive", "support") if name in needs]
    return [archive_folder(section.uri, storage) for section in sections if section is not None]


def _check_output(store: Store, places: Sequence[str]) -> None:
    """Raise unless the output responds, lies outside these folders and can be written to.

    An output with runs may be finished, and is then only read: `acquire_run` checks whether it can be written.
    """
    _refuse_unwritable(store.root)
    _outside(store, places)
    if store.is_local and not any(store.folders(RUNS)):
        store.check_writable()


def _refuse_unwritable(root: str) -> None:
    """Raise where nothing can be written, or where nothing outlives the process."""
    scheme, separator, _ = root.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        raise ValueError(f"{scheme}:// URLs are only read; use a folder, or a URL such as s3://bucket/prefix")
    if separator and scheme.lower() == "memory" and root != STAND_INS["job"]["output"]:
        raise ValueError("memory:// URLs end with the process; use a folder, or a URL such as s3://bucket/prefix")


def _outside(store: Store, places: Sequence[str]) -> None:
    """Raise unless the output responds and lies outside these folders."""
    store.check_access()
    for place in places:
        if lies_inside(store.root, place):
            root, around = real_place(store.root), real_place(place)
            raise ValueError(f"{root} lies inside {around}: results would be taken for images; choose one beside it")


def check_method(name: str, **hyperparameters: Any) -> None:
    """Check that a method takes these hyperparameters.

    Raises:
        FewShotError: it does not, or there is no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    if hyperparameters:
        build_method(name, **hyperparameters)


def check_escalation_method(section: EscalateSection) -> None:
    """Check that the method of [escalate] takes the hyperparameters of the section.

    Raises:
        FewShotError: it does not.
    """
    build_diffusion_scorer(section.method, **section.hyperparameters)


def _problem(where: str, attempt: Callable[[], object]) -> str | None:
    try:
        with first_look():
            attempt()
    except PROBLEMS as error:
        return f"{where}: {error}"
    return None


def scheduled_command_problems(job: Job, command: ScheduledCommand) -> list[str]:
    """Return what a command would refuse when it runs, as it says it, beyond what is checked of every job."""
    retrains = command == "drift" and job.drift is not None and job.drift.on_alarm == "retrain"
    return [*retrain_problems(job)] if command == "retrain" or retrains else []


def retrain_problems(job: Job) -> Iterator[str]:
    """Yield each demand of a job that a turn of retraining cannot meet."""
    if job.classifier.from_ is not None:
        yield "[classifier] from: retrain trains a classifier; remove the key, or use classify"
    if job.escalate is not None:
        yield "[escalate]: retrain labels without a diffusion model; run classify for that"
    if job.classifier.max_error is not None and job.classifier.max_error_from == "audit":
        yield "classifier.max_error_from: a new version has no audit yet; use held-out examples, or run classify"
    if job.support is None:
        yield "retrain needs the section [support]"
