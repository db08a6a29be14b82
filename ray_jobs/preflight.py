"""Look at everything a job names before anything runs, and collect what is wrong."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cluster import Store
from cluster.errors import ClusterError
from cluster.records.location import Location
from cluster.storage.settings import S3_SCHEMES
from fewshot.errors import FewShotError, UnknownNameError
from fewshot.names import METHOD_NAMES, wants_diffusion
from ray_jobs.inputs.archive import open_archive
from ray_jobs.inputs.examples import read_labels, read_text, support_labels
from ray_jobs.job_file.sections import EscalateSection, Job
from ray_jobs.output.layout import INTERACTIVE


def check(job: Job, needs: Sequence[str]) -> list[str]:
    """Problems in what the sections name; sections that are missing or wrong were told already.

    Loads no weights and no torch, so that a finished job is recognised in a second or two.

    Args:
        job: as far as its sections are right.
        needs: sections that the command uses.
    """
    if problem := _problem("[storage]", lambda: job.storage.resolve().check()):
        return [problem]  # Whatever else lies behind it would be told as one problem more.
    return [problem for finding in _findings(job, needs) if (problem := _problem(*finding)) is not None]


def _findings(job: Job, needs: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    storage = job.storage.resolve()
    yield (
        "[job] output",
        lambda: _outside(Store(job.job.output, storage=storage, retry=INTERACTIVE), _images(job, needs)),
    )
    yield "[clip] model", job.clip.spec.check
    if (archive := job.archive) is not None and "archive" in needs:
        yield "[archive] uri", lambda: open_archive(archive, storage)
        if (labels := archive.labels) is not None:
            yield "[archive] labels", lambda: read_labels(labels, storage=storage)
    if (support := job.support) is not None and "support" in needs:
        yield "[support] uri", lambda: support_labels(support, storage)
    if (evaluation := job.evaluate) is not None and "evaluate" in needs:
        yield "[evaluate] splits", lambda: read_text(evaluation.splits, storage)
        for name in evaluation.methods:
            yield "[evaluate] methods", lambda name=name: check_method(name)  # type: ignore[misc]
    yield "[classifier] method", lambda: check_method(job.classifier.method, **job.classifier.hyperparameters)
    if wants_diffusion(job.classifier.method, job.classifier.hyperparameters):
        yield "[diffusion] model", job.diffusion.spec.check
    if (escalate := job.escalate) is not None and _asks(job, needs):
        yield "[escalate] model", escalate.spec.check
        if escalate.hyperparameters:
            yield "[escalate] hyperparameters", lambda: check_escalation_method(escalate)


def _asks(job: Job, needs: Sequence[str]) -> bool:
    """Whether [escalate] plays a part."""
    measured = "evaluate" in needs and job.evaluate is not None and job.evaluate.protocol == "few-shot"
    return "archive" in needs or measured


def _images(job: Job, needs: Sequence[str]) -> list[str]:
    """Places whose files are images to the job."""
    return [
        section.uri for name in ("archive", "support") if name in needs and (section := getattr(job, name)) is not None
    ]


def _outside(store: Store, places: Sequence[str]) -> None:
    """Raise unless the output answers and lies outside these places."""
    store.reach()
    root = _real(store.root)
    for place in (_real(Location.of(place).shown) for place in places):
        if f"{root}/".startswith(f"{place}/"):
            raise ValueError(f"{root} lies inside {place}: results would be taken for images; choose one beside it")


def _real(place: str) -> str:
    """One name for a place, however it is written; a local one without the symbolic links on the way to it."""
    if "://" not in place:
        return os.path.realpath(place)
    scheme, _, path = place.partition("://")
    return posixpath.normpath(f"{'s3' if scheme in S3_SCHEMES else scheme}://{path}")


def check_method(name: str, **hyperparameters: Any) -> None:
    """Raise unless the method takes these hyperparameters.

    Raises:
        FewShotError: it does not, or there is no such method.
    """
    if name not in METHOD_NAMES:
        raise UnknownNameError("method", name, METHOD_NAMES)
    if hyperparameters:
        from fewshot.methods import method_named

        method_named(name, **hyperparameters)


def check_escalation_method(section: EscalateSection) -> None:
    """Raise unless the method that asks takes the hyperparameters of the section.

    Raises:
        FewShotError: it does not.
    """
    from fewshot.methods import asking_method_named

    asking_method_named(section.method, **section.hyperparameters)


def _problem(where: str, attempt: Callable[[], Any]) -> str | None:
    try:
        attempt()
    except (FewShotError, ClusterError, ValueError, OSError) as error:
        return f"{where}: {error}"
    return None
