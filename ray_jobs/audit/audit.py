"""An audit of a run: draw a sample, or continue it, and estimate from the answers that the ledger has."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cluster import Storage
from ray_jobs.audit.answers import answers_in_order, estimates
from ray_jobs.audit.sampling import draw_sample
from ray_jobs.audit.stored_draw import (
    StoredDraw,
    StoredSample,
    create_draw,
    draw_folder,
    draw_name,
    find_draw,
    find_sample,
    sample_path,
    sample_sizes,
)
from ray_jobs.errors import JobError
from ray_jobs.inputs.ground_truth import STORED_BEFORE
from ray_jobs.labels.current_labels import CurrentLabels
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.layout import AUDIT_RESULT, METRICS, RUNS
from ray_jobs.registry.journal import Journal
from ray_jobs.report import ensure_report
from ray_jobs.report.audit_section import find_audit
from ray_jobs.report.markup import plural
from ray_jobs.results.audit_result import AuditResult
from ray_jobs.results.classification_metrics import ClassificationMetrics

DEFAULT_IMAGES = 300
FEWEST_IMAGES = 20
CONFIDENCE = 0.95
"""Of every interval."""
COLUMNS = ("image", "label", "answer", "reason", "draw", "probability", "url")
"""Of a table of images to label."""


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit as far as it is.

    Attributes:
        result: what the answers show.
        archive: of the run.
        sample: the images that were drawn.
        current: the labels of the ledger.
    """

    result: AuditResult
    archive: LabelledArchive
    sample: StoredSample
    current: CurrentLabels


def audit(url: str, images: int | None, *, seed: int = 0, job: str | None = None, storage: Storage) -> Audit:
    """Draw a sample of a run and say what the answers to it show; the result is stored with the draw.

    Where there are answers, the report of the run is written anew, with a section on them, and `metrics.json` has them
    under "audit".

    Args:
        url: folder of the run, or an output: then its newest complete run.
        images: number of images to draw; fewer than were drawn before change nothing; None: those that were drawn, or
            `DEFAULT_IMAGES`.
        seed: of the draw: another one draws other images.
        job: of an output with several jobs, the name of the one that is meant.
        storage: how S3 is reached.

    Raises:
        JobError: there is no such run, it is not complete, or what is stored is damaged.
        DataError: no image has a prediction.
        StorageError: storage does not respond.
    """
    if images is not None and images < FEWEST_IMAGES:
        raise JobError([f"an audit takes {FEWEST_IMAGES} images at least, got --n {images}"])
    archive = LabelledArchive.open(url, storage, job=job)
    if not archive.run.is_complete:
        raise JobError([f"{archive.run.url} is not complete: run the job again, then audit it"])
    draw = _draw(archive, images or DEFAULT_IMAGES, seed)
    path, sample = _sample(archive, draw, images or draw.planned)
    current = archive.ledger.current()
    result = _result(archive, draw, path, sample, current)
    archive.store.put(f"{draw_folder(draw.name)}/{AUDIT_RESULT}", result.to_bytes())
    _note_in_metrics(archive)
    if result.estimates is not None:
        ensure_report(archive.store, archive.run.folder, archive.job, keep=False)
    return Audit(result, archive, sample, current)


def _note_in_metrics(archive: LabelledArchive) -> None:
    """Write what audits of the run say into its metrics, beside what they had before."""
    metrics, path = archive.run.metrics, f"{archive.run.folder}/{METRICS}"
    audit = find_audit(archive.store, archive.run.name)
    summary = None if audit is None else audit.summary()
    if isinstance(metrics, ClassificationMetrics) and metrics.audit != summary:
        archive.store.put(path, replace(metrics, audit=summary).to_bytes())


def _draw(archive: LabelledArchive, images: int, seed: int) -> StoredDraw:
    """Find the draw, or create it."""
    known = find_draw(archive.store, draw_name(archive.run.name, seed))
    if known is not None:
        return known
    draw = StoredDraw(
        run=archive.run.name,
        classifier=archive.classifier,
        archive=archive.source.identity,
        seed=seed,
        planned=images,
        learned_from=archive.run.plan.learned_from or (),
        notes=(STORED_BEFORE,) if _is_unknown(archive) else (),
    )
    return create_draw(archive.store, draw)


def _is_unknown(archive: LabelledArchive) -> bool:
    """Whether nobody knows what the classifier learned from: neither this job nor one of its retrainings trained it."""
    if archive.job.classifier.from_ is None:
        return False
    versions = Journal(archive.store, archive.run.job).state().versions.values()
    return all(each.classifier != archive.run.plan.classifier_name for each in versions)


def _sample(archive: LabelledArchive, draw: StoredDraw, images: int) -> tuple[str, StoredSample]:
    """Find the sample, or the largest one, or draw it; return its path, too."""
    sizes = sample_sizes(archive.store, draw.name)
    size = max([images, *sizes])
    path = sample_path(draw.name, size)
    if size in sizes and (found := find_sample(archive.store, path)) is not None:
        return path, found
    sample = draw_sample(archive.run, draw, size)
    archive.store.put(path, sample.to_bytes())
    return path, sample


def _result(
    archive: LabelledArchive, draw: StoredDraw, path: str, sample: StoredSample, current: CurrentLabels
) -> AuditResult:
    answers, waiting = answers_in_order(sample, current.draws.get(draw.name, {}), draw.archive)
    limit_confidence = archive.run.plan.confidence
    found = None
    if answers:
        found = estimates(
            sample.to_draw(),
            answers,
            planned=min(draw.planned, sample.population),
            confidence=CONFIDENCE,
            limit_confidence=limit_confidence,
        )
    given, withheld = (
        sum(stratum.images for stratum in sample.strata if stratum.status == status) for status in ("ok", "abstained")
    )
    return AuditResult(
        draw=draw.name,
        run=draw.run,
        classifier=draw.classifier,
        archive=draw.archive,
        seed=draw.seed,
        sample=path,
        images=len(sample.images),
        population=sample.population,
        unreadable=sample.unreadable,
        learned_from=sample.learned_from,
        labelled_share=given / sample.population,
        abstained_share=withheld / sample.population,
        answered=len(answers),
        uncertain=sum(not answer.is_certain for answer in answers),
        waiting=waiting,
        confidence=CONFIDENCE,
        limit_confidence=limit_confidence,
        estimates=found,
        notes=(*draw.notes, *_repeated_keys(sample), *_other_draws(archive, draw, current)),
    )


def _repeated_keys(sample: StoredSample) -> Iterator[str]:
    """Say where an answer counts for several images, which labels cannot tell apart."""
    repeated = [image for image, count in Counter(each.image for each in sample.images).items() if count > 1]
    if repeated:
        found = plural(len(repeated), "key of the sample is", "keys of the sample are")
        yield (
            f"{found} not of one image alone, such as {repeated[0]}: an answer counts for all of them, and what is said"
            " here may be wrong. Give the members of all tars, zips and tables names of their own."
        )


def _other_draws(archive: LabelledArchive, draw: StoredDraw, current: CurrentLabels) -> Iterator[str]:
    """Say which other draws the ledger has answers to: this one does not use them."""
    for name, events in sorted(current.draws.items()):
        answers = sum(image.archive == draw.archive for image in events)
        if name != draw.name and answers:
            run, _, seed = name.rpartition("-")
            seen = f"fewshot audit {archive.run.output}/{RUNS}/{run} --seed {seed}"
            found = plural(answers, "answer to another draw, which is", "answers to another draw, which are")
            why = "this draw chose its images with chances of its own, so only answers to its images count"
            yield f"The ledger has {found} not used: {why}. What the others say: {seen}"


def table_to_label(done: Audit) -> tuple[bytes, int]:
    """Return the images of an audit that have no answer yet as a CSV table, without what was predicted.

    Args:
        done: the audit.

    Returns:
        the table, in the order of the draw, whose columns label and answer are empty, and the number of its images.
    """
    answered = done.current.draws.get(done.result.draw, {})
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = 0
    for each in done.sample.images:
        if done.archive.image_id(each.image) not in answered:
            url = done.archive.run.image_url(each.image, each.source)
            writer.writerow((each.image, "", "", "audit", done.result.draw, repr(each.probability), url))
            rows += 1
    return file.getvalue().encode("utf-8", "backslashreplace"), rows
