"""A reference at promotion, and the comparison of every later pass with it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import Store
from cluster.fingerprint import fingerprint
from cluster.records.reading import ordered_map
from fewshot.drift import LEAST, Finding, Floors, Sample, Statistic, compare, next_level, windows
from ray_jobs.drift.drift_store import Clock, DriftStore, spent_by, utc_now, written
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
"""Statistics that compare predictions, so that both samples need the same classifier and thresholds."""


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
    are promoted. The sample and its features stay, too. A promotion renews their predictions alone; images that are
    gone have none, and count for neither `classes` nor `withheld`.

    It may be called again after a kill, or by two processes: a version has one reference, unless `accept` adds another,
    or added one under another version since: after a rollback, what was accepted stays accepted. A reference of fewer
    than `LEAST` images counts only until an archive has as many: that becomes the reference.

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
        found = None if accept else _reference_of(known, version)
        if found is not None and found.images >= LEAST:
            return found
        former = None if accept else _former_of(known, backbone_of(embedded))
        images = _archive_of(embedded, drift) if former is None else _renewed(embedded, drift, former)
        if found is not None and len(images.sample) < LEAST:
            return found
        reference = DriftReference(
            number=known[-1].number + 1 if known else 1,
            time=written(clock()),
            version=version,
            run=images.run,
            backbone=backbone_of(embedded),
            predictions=images.predictions,
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
    `withheld` compare predictions, and are left out where those of the reference are by another classifier or other
    thresholds than those of the run, or are not there. A classifier is too sure of images that it learned from: these
    count for neither of the two, and both are left out where more than `floors.change` of a sample are such images,
    since those that people chose to label, taken out, would change the shares by as much. What they would have got of
    the level stays unspent, though the night counts as if it had spent it: fewer false alarms than stated are to be
    expected, not more.

    Args:
        embedded: a complete run of the job.
        version: in production; None without a registry.
        rules: when a comparison is an alarm; None takes the defaults.
        clock: returns the time; for tests.

    Returns:
        what came of it; the first check of a version writes its reference, if there is none yet, and compares with it
        if it carries on the contents of another one.

    Raises:
        JobError: the run is not complete, another backbone embedded it, or something that is stored is damaged.
        StorageError: storage does not respond.
    """
    drift = _drift_of(embedded)
    references = drift.references()
    reference = _reference_of(references, version)
    if reference is not None and reference.backbone != backbone_of(embedded):
        raise JobError([f"{embedded.run.url} was embedded by another backbone than its reference. {ACCEPT}"])
    if reference is None or reference.images < LEAST:
        reference = keep_reference(embedded, version=version, why="the first check", clock=clock)
        if reference.known not in {each.known for each in references}:
            return DriftCheck("reference", reference, None, 0)
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
    time = written(clock())
    spent, years = spent_by(time, references, nights)
    level = next_level(spent, years, alarms_a_year=rules.alarms_a_year)
    base = drift.read(reference.sample, DrawnSample)
    old, new = _samples(base, present)
    found, unlike = compare(old, new, sizes, level=level, floors=rules.floors, seed=reference.number)
    is_comparable = reference.predictions == predictions_of(embedded)
    most = rules.floors.change
    findings = [
        each
        for each in found
        if each.statistic not in OF_PREDICTIONS
        or (is_comparable and _learned_share(base.images, present.images[: each.images]) <= most)
    ]
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


def predictions_of(embedded: EmbeddedRun) -> str:
    """Return what determines the predictions of a run: their folder, which classifier and thresholds name.

    Those of a run with [escalate] are its own, so it is the folder of the cheap ones with the settings of [escalate].
    """
    plan = embedded.run.plan
    if not plan.cheap_predictions:
        return posixpath.dirname(plan.predictions[0])
    from ray_jobs.escalation import escalation_identity

    escalate = embedded.job.escalate
    settings = None if escalate is None else escalation_identity(escalate)
    return f"{posixpath.dirname(plan.cheap_predictions[0])}/escalated-{fingerprint(settings)}"


def _drift_of(embedded: EmbeddedRun) -> DriftStore:
    if not embedded.run.is_complete:
        raise JobError([f"{embedded.run.url} is not complete; run the job again before its images are compared"])
    return DriftStore(embedded.store, embedded.run.job)


def _reference_of(references: list[DriftReference], version: int | None) -> DriftReference | None:
    """Return the newest reference of a version; None if another one stands for other contents of its backbone since.

    An archive that was accepted under another version stays accepted after a rollback to this one.
    """
    found = next((each for each in reversed(references) if each.version == version), None)
    newest = None if found is None else _newest_of(references, found.backbone)
    return found if found is not None and newest is not None and found.known == newest.known else None


def _newest_of(references: list[DriftReference], backbone: str) -> DriftReference | None:
    return next((each for each in reversed(references) if each.backbone == backbone), None)


def _former_of(references: list[DriftReference], backbone: str) -> DriftReference | None:
    """Return the newest reference of a backbone; None if its contents are too few to be carried on."""
    found = _newest_of(references, backbone)
    return None if found is None or found.images < LEAST else found


@dataclass(frozen=True, slots=True)
class _ReferenceImages:
    """The images of a reference.

    Attributes:
        sample: that is compared.
        predictions: what determines them, see `predictions_of`.
        run: whose parts of features have known contents only.
        known: path of the list of contents.
        contents: number of them.
    """

    sample: DrawnSample
    predictions: str
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
    return _ReferenceImages(everything.sample(), predictions_of(embedded), embedded.run.folder, known, len(seen))


def _renewed(embedded: EmbeddedRun, drift: DriftStore, former: DriftReference) -> _ReferenceImages:
    """Carry on the contents and the sample of the reference before, with present predictions where there are any.

    The features stay: of an archive that slides, what is left would be ever fewer images, and no random ones.
    """
    before, present = drift.read(former.sample, DrawnSample), dict[int, DrawnImage]()
    for images, _, hashes in _rows(embedded, frozenset()):
        for row in np.flatnonzero(np.isin(hashes, before.hashes)).tolist():
            present.setdefault(int(hashes[row]), images[row])
    renewed = tuple(
        present.get(content) or replace(image, label=None, status=None)
        for content, image in zip(before.hashes.tolist(), before.images, strict=True)
    )
    sample = replace(before, images=renewed)
    return _ReferenceImages(sample, predictions_of(embedded), former.run, former.known, former.contents)


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
    learned = frozenset(embedded.run.plan.learned_from or ())

    def read(part: str) -> tuple[list[DrawnImage], NDArray[np.float32], Hashes]:
        rows, shard = view_features(embedded.store, part), shard_of(part)
        positions, features = unit_rows(rows)
        table = embedded.predicted(shard)
        predicted = {} if table is None else {row["image"]: row for row in table.to_pylist()}
        images = [
            _drawn(image, rows.sources[row], shard, row, predicted.get(image), learned=image in learned)
            for row in positions.tolist()
            for image in [rows.images[row]]
        ]
        return images, features, content_hashes(rows.views[positions, 0])

    return ordered_map(read, [part for part in embedded.features if part not in known], READERS)


def _drawn(
    image: str, source: str, shard: str, row: int, predicted: Mapping[str, Any] | None, *, learned: bool
) -> DrawnImage:
    top, status = (None, None) if predicted is None else (predicted["top_labels"], predicted["status"])
    return DrawnImage(image, source, shard, row, str(top[0]) if top else None, status, learned)


def _samples(*drawn: DrawnSample) -> list[Sample]:
    """Return samples with classes as numbers that mean the same in all; images that were learned from have none."""
    numbers: dict[str | None, int] = {None: -1}
    counted = [[None if image.learned else image.label for image in each.images] for each in drawn]
    return [
        Sample(
            each.features,
            np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64),
            np.array([image.status in WITHHELD for image in each.images], bool),
        )
        for each, labels in zip(drawn, counted, strict=True)
    ]


def _learned_share(*samples: Sequence[DrawnImage]) -> float:
    """Return the largest share of images with a prediction that the classifier learned from, in any of the samples."""
    counted = [[image.learned for image in images if image.label is not None] for images in samples]
    return max(sum(learned) / max(1, len(learned)) for learned in counted)


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
