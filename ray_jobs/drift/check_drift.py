"""A reference at promotion, and the comparison of every later pass with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import Store
from cluster.records.reading import ordered_map
from fewshot.drift import LEAST, Finding, Floors, Sample, Statistic, compare, next_level, windows
from ray_jobs.drift.drift_store import Clock, DriftStore, spent_of, utc_now, years_between
from ray_jobs.drift.newcomers import (
    DrawnImage,
    DrawnSample,
    Hashes,
    KnownContents,
    Newcomers,
    content_hashes,
    joined,
)
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import later_than
from ray_jobs.output.feature_parts import READERS, view_features
from ray_jobs.output.layout import shard_of
from ray_jobs.output.runs import read_run
from ray_jobs.results.drift_result import DriftFinding, DriftNight, DriftOutcome, DriftReference, UnlikeImage
from ray_jobs.results.json_format import FormatError
from ray_jobs.suggestion.embedded_run import EmbeddedRun, unit_rows

SHOWN = 12
"""Images that are shown, at most."""
SAME = 0.97
"""Cosine above which an image is not shown beside another one."""
WITHHELD = ("abstained", "unknown")
OF_PREDICTIONS: frozenset[Statistic] = frozenset({"classes", "withheld"})
"""Statistics that compare predictions, so that both samples need the same classifier."""


@dataclass(frozen=True, slots=True)
class DriftRules:
    """When a comparison is an alarm.

    Attributes:
        alarms_a_year: expected number of false alarms a year, at most, > 0.
        floors: smallest effects.
    """

    alarms_a_year: float = 1.0
    floors: Floors = field(default_factory=Floors)


@dataclass(frozen=True, slots=True)
class DriftCheck:
    """What came of a check.

    Attributes:
        did: see `DriftOutcome`.
        reference: that images are compared with.
        night: the comparison that was made, or that of the same contents before; None if there is neither.
        came: number of contents that came since the last comparison.
    """

    did: DriftOutcome
    reference: DriftReference
    night: DriftNight | None
    came: int

    @property
    def is_alarm(self) -> bool:
        """Whether the contents that are there are an alarm."""
        return self.night is not None and bool(self.night.alarms)


def keep_reference(
    embedded: EmbeddedRun,
    *,
    version: int | None,
    accept: bool = False,
    why: str = "promoted",
    clock: Clock = utc_now,
) -> DriftReference:
    """Store the reference of a version. Call it at promotion.

    The first reference takes the archive as it is for normal, and so does one with another backbone, or with `accept`.
    Any other one carries on the contents of the reference before: what came meanwhile stays new, however often versions
    are promoted. A promotion renews the predictions alone, by a sample of those contents as they are labelled now;
    where fewer than `LEAST` of them are left, the sample before is carried on without predictions.

    It may be called again after a kill, or by two processes: a version has one reference, unless `accept` adds another.

    Args:
        embedded: a complete run of the job, by this version.
        version: its number in the registry; None without a registry.
        accept: take the archive as it is now for normal, whatever was stored before.
        why: in a sentence.
        clock: returns the time; for tests.

    Returns:
        the reference that later passes of this version are compared with.

    Raises:
        JobError: the run is not complete, or something that is stored is damaged.
        StorageError: storage does not respond.
    """
    drift = _drift_of(embedded)
    for _ in count():
        known = drift.references()
        if not accept and (found := _reference_of(known, version)) is not None:
            return found
        former = None if accept else _former_of(known, backbone_of(embedded))
        images = _archive_of(embedded, drift) if former is None else _renewed(embedded, drift, former)
        reference = DriftReference(
            number=known[-1].number + 1 if known else 1,
            time=later_than(known[-1].time if known else None, clock()),
            version=version,
            run=images.run,
            backbone=backbone_of(embedded),
            classifier=images.classifier,
            images=len(images.sample),
            contents=images.contents,
            sample=drift.keep(images.sample),
            known=images.known,
            why=why,
        )
        if drift.append(reference):
            return reference
    raise AssertionError


def check_drift(
    embedded: EmbeddedRun, *, version: int | None, rules: DriftRules | None = None, clock: Clock = utc_now
) -> DriftCheck:
    """Compare what came since the reference of a version with it. Call it after each pass over the archive.

    A pass that was compared is not compared again: its night is returned, as it is for a pass over the same contents.
    Where nothing came and contents vanished, what is left is compared, so that an alarm ends when its cause is removed.
    The level of a night follows from the nights that are stored, see `fewshot.drift.alarm_budget`. `classes` and
    `withheld` compare predictions, and are left out where those of the reference are by another classifier than those
    of the run, or are not there. What they would have got of the level stays unspent, though the night counts as if it
    had spent it: fewer false alarms than stated are to be expected, not more.

    Args:
        embedded: a complete run of the job.
        version: in production; None without a registry.
        rules: when a comparison is an alarm; None takes the defaults.
        clock: returns the time; for tests.

    Returns:
        what came of it; the first check of a version writes its reference, if there is none yet.

    Raises:
        JobError: the run is not complete, another backbone embedded it, or something that is stored is damaged.
        StorageError: storage does not respond.
    """
    drift = _drift_of(embedded)
    reference = _reference_of(drift.references(), version)
    if reference is None:
        reference = keep_reference(embedded, version=version, why="the first check", clock=clock)
        return DriftCheck("reference", reference, None, 0)
    if reference.backbone != backbone_of(embedded):
        raise JobError([f"{embedded.run.url} was embedded by another backbone than its reference. {ACCEPT}"])
    for _ in count():
        check = _check(embedded, drift, reference, rules or DriftRules(), clock)
        if check is not None:
            return check
    raise AssertionError


ACCEPT = "Write a new reference with fewshot drift JOB.toml --accept."


def _check(
    embedded: EmbeddedRun, drift: DriftStore, reference: DriftReference, rules: DriftRules, clock: Clock
) -> DriftCheck | None:
    """Compare; None if another process wrote a night meanwhile."""
    references, nights = drift.references(), drift.nights()
    lineage = {each.number for each in references if each.known == reference.known}
    own = [night for night in nights if night.reference in lineage]
    last = own[-1] if own else None
    number = nights[-1].number + 1 if nights else 1
    before = drift.read(reference.known, KnownContents)
    since = None if last is None else drift.read(last.seen, KnownContents)
    newcomers = Newcomers(joined(before, since), number)
    for images, features, hashes in _rows(embedded, _parts_of(embedded.store, reference.run)):
        newcomers.offer(images, features, hashes)
    present, seen = newcomers.sample(), newcomers.seen()
    if last is not None and not newcomers.came and len(seen) == last.since:
        return DriftCheck("unchanged", reference, last, 0)
    sizes = windows(present.nights.tolist())
    if not sizes or reference.images < LEAST:
        return DriftCheck("waiting", reference, None, newcomers.came)
    first = references[0].time
    time = later_than(nights[-1].time if nights else None, clock())
    level = next_level(spent_of(nights, first), years_between(first, time), alarms_a_year=rules.alarms_a_year)
    base = drift.read(reference.sample, DrawnSample)
    old, new = _samples(base, present)
    found, unlike = compare(old, new, sizes, level=level, floors=rules.floors, seed=reference.number)
    is_comparable = reference.classifier is not None and reference.classifier == classifier_of(embedded)
    findings = [each for each in found if is_comparable or each.statistic not in OF_PREDICTIONS]
    night = DriftNight(
        number=number,
        time=time,
        reference=reference.number,
        run=embedded.run.folder,
        came=newcomers.came,
        since=len(seen),
        seen=drift.keep(seen),
        level=level,
        findings=tuple(map(_finding, findings)),
        unlike=tuple(_most_unlike(present, unlike)),
    )
    return DriftCheck("compared", reference, night, newcomers.came) if drift.append(night) else None


def backbone_of(embedded: EmbeddedRun) -> str:
    """Return the fingerprint of the backbone of a run: features/<backbone>/<archive>/part-<shard>.parquet."""
    return embedded.run.plan.features[0].split("/")[1]


def classifier_of(embedded: EmbeddedRun) -> str | None:
    """Return the folder of the classifier of a run in its output, also after that was moved."""
    name = embedded.run.plan.classifier_name
    return None if name is None else f"classifiers/{name}"


def _drift_of(embedded: EmbeddedRun) -> DriftStore:
    if not embedded.run.is_complete:
        raise JobError([f"{embedded.run.url} is not complete; run the job again before its images are compared"])
    return DriftStore(embedded.store, embedded.run.job)


def _reference_of(references: list[DriftReference], version: int | None) -> DriftReference | None:
    """Return the newest reference of a version."""
    return next((each for each in reversed(references) if each.version == version), None)


def _former_of(references: list[DriftReference], backbone: str) -> DriftReference | None:
    """Return the newest reference of a backbone whose contents can be carried on: too few compare with nothing."""
    found = (each for each in reversed(references) if each.backbone == backbone and each.images >= LEAST)
    return next(found, None)


@dataclass(frozen=True, slots=True)
class _ReferenceImages:
    """The images of a reference.

    Attributes:
        sample: that is compared.
        classifier: that its predictions are by; None if it has none.
        run: whose parts of features have known contents only.
        known: path of the list of contents.
        contents: number of them.
    """

    sample: DrawnSample
    classifier: str | None
    run: str
    known: str
    contents: int


def _archive_of(embedded: EmbeddedRun, drift: DriftStore) -> _ReferenceImages:
    """Take the archive as it is for normal."""
    everything = Newcomers(KnownContents.lowest({}), 1)
    for images, features, hashes in _rows(embedded, frozenset()):
        everything.offer(images, features, hashes)
    seen = everything.seen()
    known = drift.keep(KnownContents(seen.hashes, np.zeros_like(seen.nights), seen.bound))
    return _ReferenceImages(everything.sample(), classifier_of(embedded), embedded.run.folder, known, len(seen))


def _renewed(embedded: EmbeddedRun, drift: DriftStore, former: DriftReference) -> _ReferenceImages:
    """Carry on the contents of the reference before, with present predictions as far as they are there."""
    known, left = drift.read(former.known, KnownContents), Newcomers(KnownContents.lowest({}), 1)
    for images, features, hashes in _rows(embedded, frozenset()):
        rows = np.flatnonzero(known.were_there(hashes))
        left.offer([images[row] for row in rows.tolist()], features[rows], hashes[rows])
    sample, classifier = left.sample(), classifier_of(embedded)
    if len(sample) < LEAST:
        before = drift.read(former.sample, DrawnSample)
        without = tuple(replace(image, label=None, status=None) for image in before.images)
        sample, classifier = replace(before, images=without), None
    return _ReferenceImages(sample, classifier, former.run, former.known, former.contents)


def _parts_of(store: Store, run: str) -> frozenset[str]:
    """Return the parts of features of the run of a reference: their contents are known. None if it is gone."""
    try:
        found = read_run(store, run)
    except (FormatError, FileNotFoundError):
        return frozenset()
    return frozenset() if found is None else frozenset(found.plan.features)


def _rows(
    embedded: EmbeddedRun, known: frozenset[str]
) -> Iterable[tuple[list[DrawnImage], NDArray[np.float32], Hashes]]:
    """Read the images of a run, part by part, but for parts that are known."""

    def read(part: str) -> tuple[list[DrawnImage], NDArray[np.float32], Hashes]:
        rows, shard = view_features(embedded.store, part), shard_of(part)
        positions, features = unit_rows(rows)
        table = embedded.predicted(shard)
        predicted = {} if table is None else {row["image"]: row for row in table.to_pylist()}
        images = [
            _drawn(rows.images[row], rows.sources[row], shard, row, predicted.get(rows.images[row]))
            for row in positions.tolist()
        ]
        return images, features, content_hashes(rows.views[positions, 0])

    return ordered_map(read, [part for part in embedded.features if part not in known], READERS)


def _drawn(image: str, source: str, shard: str, row: int, predicted: Mapping[str, Any] | None) -> DrawnImage:
    top, status = (None, None) if predicted is None else (predicted["top_labels"], predicted["status"])
    return DrawnImage(image, source, shard, row, str(top[0]) if top else None, status)


def _samples(*drawn: DrawnSample) -> list[Sample]:
    """Return samples with classes as numbers that mean the same in all."""
    numbers: dict[str | None, int] = {None: -1}
    return [
        Sample(
            each.features,
            np.array([numbers.setdefault(image.label, len(numbers)) for image in each.images], np.int64),
            np.array([image.status in WITHHELD for image in each.images], bool),
        )
        for each in drawn
    ]


def _finding(finding: Finding) -> DriftFinding:
    return DriftFinding(
        statistic=finding.statistic,
        images=finding.images,
        reference=finding.reference,
        value=finding.value,
        effect=finding.effect,
        floor=finding.floor,
        p_value=finding.p_value,
        level=finding.level,
        alarm=finding.is_alarm,
    )


def _most_unlike(present: DrawnSample, unlike: NDArray[np.float64]) -> Iterable[UnlikeImage]:
    """Yield the images with the highest scores, of images that are nearly the same one alone."""
    shown: list[int] = []
    for row in np.argsort(-unlike, kind="stable").tolist():
        if shown and float((present.features[shown] @ present.features[row]).max()) > SAME:
            continue
        shown.append(row)
        if len(shown) == SHOWN:
            break
    for row in shown:
        image = present.images[row]
        yield UnlikeImage(
            image=image.image,
            source=image.source,
            shard=image.shard,
            row=image.row,
            label=image.label,
            status=image.status,
            score=float(unlike[row]),
        )
