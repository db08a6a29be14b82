"""Check everything a job names before anything runs, and collect what is wrong."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from cluster import Store
from cluster.errors import ClusterError
from cluster.records import images_folder
from cluster.records.location import Location
from cluster.storage.settings import S3_SCHEMES
from fewshot.errors import FewShotError, UnknownNameError
from fewshot.methods import METHODS, build_diffusion_scorer, build_method, needs_of
from ray_jobs.errors import JobError
from ray_jobs.inputs.archive import open_archive
from ray_jobs.inputs.examples import read_splits, support_labels
from ray_jobs.inputs.ground_truth import read_given_labels
from ray_jobs.job_file.sections import EscalateSection, Job
from ray_jobs.output.classifiers import open_classifier
from ray_jobs.output.layout import INTERACTIVE

Finding: TypeAlias = tuple[str, Callable[[], object]]
"""A key of the job file, and what raises where it is wrong."""


def check(job: Job, needs: Sequence[str]) -> list[str]:
    """Find problems in what the sections name; a section that is missing or wrong was reported when it was read.

    Loads no weights and no torch, so that a finished job is recognised in a second or two.

    Args:
        job: as far as its sections are right.
        needs: sections that the command uses.
    """
    if problem := _problem("[storage]", lambda: job.storage.resolve().check_endpoint()):
        return [problem]  # Whatever else lies behind it would be reported as one problem more.
    return [problem for finding in _findings(job, needs) if (problem := _problem(*finding)) is not None]


def _findings(job: Job, needs: Sequence[str]) -> Iterator[Finding]:
    storage = job.storage.resolve()
    yield (
        "[job] output",
        lambda: _outside(Store(job.job.output, storage=storage, retry=INTERACTIVE), _image_folders(job, needs)),
    )
    if job.classifier.from_ is None or job.clip_given is not None:
        yield "[clip] model", job.clip.spec.check
    if (archive := job.archive) is not None and "archive" in needs:
        yield "[archive] uri", lambda: open_archive(archive, storage)
        if archive.labels is not None:
            yield "[archive] labels", lambda: read_given_labels(archive, storage)
    if (support := job.support) is not None and "support" in needs and _trains_on_examples(job):
        yield "[support] uri", lambda: support_labels(support, storage)
    if (evaluation := job.evaluate) is not None and "evaluate" in needs:
        yield "[evaluate] splits", lambda: read_splits(evaluation.splits, evaluation.images, storage)
        for name in evaluation.methods:
            yield "[evaluate] methods", lambda name=name: check_method(name)  # type: ignore[misc]
    yield from _classifier_findings(job, needs)
    if (escalate := job.escalate) is not None and _escalates(job, needs):
        yield "[escalate] model", escalate.spec.check
        if escalate.hyperparameters:
            yield "[escalate] hyperparameters", lambda: check_escalation_method(escalate)


def _classifier_findings(job: Job, needs: Sequence[str]) -> Iterator[Finding]:
    section, storage = job.classifier, job.storage.resolve()
    if (stored := section.from_) is None:
        yield "[classifier] method", lambda: check_method(section.method, **section.hyperparameters)
        if "diffusion" in needs_of(section.method, section.hyperparameters):
            yield "[diffusion] model", job.diffusion.spec.check
    elif "evaluate" in needs:
        yield "[classifier] from", _refuse_evaluation
    else:
        yield "[classifier] from", lambda: open_classifier(stored, storage).backbone(job.clip_given)


def _refuse_evaluation() -> None:
    raise ValueError("an evaluation trains its classifiers from the splits; remove from")


def _trains_on_examples(job: Job) -> bool:
    """Whether examples are trained on: not with a stored classifier, unless [escalate] does."""
    return job.classifier.from_ is None or job.escalate is not None


def _escalates(job: Job, needs: Sequence[str]) -> bool:
    """Whether [escalate] plays a part."""
    measured = "evaluate" in needs and job.evaluate is not None and job.evaluate.protocol == "few-shot"
    return "archive" in needs or measured


def _image_folders(job: Job, needs: Sequence[str]) -> list[str]:
    """Folders and URLs whose files are images to the job."""
    sections = [getattr(job, name) for name in ("archive", "support") if name in needs]
    return [images_folder(section.uri, job.storage.resolve()) for section in sections if section is not None]


def _outside(store: Store, places: Sequence[str]) -> None:
    """Raise unless the output responds and lies outside these folders."""
    store.check_access()
    for place in places:
        if lies_inside(store.root, place):
            root, around = _real(store.root), _real(Location.parse(place).redacted)
            raise ValueError(f"{root} lies inside {around}: results would be taken for images; choose one beside it")


def lies_inside(place: str, folder: str) -> bool:
    """Return whether a path or URL is this folder or lies below it, however the two are written."""
    inner, outer = (_real(Location.parse(uri).redacted) for uri in (place, folder))
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


def _real(place: str) -> str:
    """One name for a place, however it is written; a local one without the symbolic links on the way to it."""
    if "://" not in place:
        return os.path.realpath(place)
    scheme, _, path = place.partition("://")
    return posixpath.normpath(f"{'s3' if scheme in S3_SCHEMES else scheme}://{path}")


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
        attempt()
    except (FewShotError, ClusterError, JobError, ValueError, OSError) as error:
        return f"{where}: {error}"
    return None
