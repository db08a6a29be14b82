"""The section on an audit: what people's labels of a random sample say about the whole archive."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from cluster import Store
from ray_jobs.output.layout import AUDIT_RESULT, AUDITS
from ray_jobs.report.markup import element, listing, number, outside, percent, plural, table, tile
from ray_jobs.results.audit_result import AuditedClass, AuditedLimit, AuditedShare, AuditResult

CLASSES = 60
"""Classes in the table, the most frequent ones."""


def find_audit(store: Store, run: str) -> AuditResult | None:
    """Return the audit of a run with the most answers; None if there is none with any.

    Args:
        store: the output.
        run: name of the run.

    Raises:
        FormatError: a result is damaged.
        StorageError: storage does not respond.
    """
    drawn = [folder for folder in store.folders(AUDITS) if posixpath.basename(folder).rpartition("-")[0] == run]
    paths = [f"{folder}/{AUDIT_RESULT}" for folder in drawn]
    found = [AuditResult.from_json(store.get(path), where=store.url(path)) for path in paths if store.exists(path)]
    answered = [result for result in found if result.estimates is not None]
    return max(answered, key=lambda result: (result.answered, result.draw), default=None)


def audit_section(audit: AuditResult | None) -> Iterator[Element]:
    """Return the section; nothing without an audit."""
    if audit is None or (found := audit.estimates) is None:
        return
    yield element("h2", "What an audit says")
    sample = f"{plural(audit.answered, 'image')} of {number(audit.population)}, drawn at random and labelled by people"
    every = f"Intervals of {percent(audit.confidence)} hold at every look, each by itself."
    yield element("p", f"{sample}. {every}", class_="note")
    tiles = [tile("Accuracy", _value(found.accuracy), _interval(found.accuracy))]
    if found.labelled_error is not None:
        tiles.append(tile("Wrong labels", _value(found.labelled_error), _interval(found.labelled_error)))
    yield listing(tiles, class_="tiles")
    yield from (element("p", note, class_="note") for note in audit.notes)
    yield element("h3", "Class by class")
    names = ("class", "predicted", "images, estimated", "precision", "recall")
    ranked = sorted(found.classes, key=lambda each: (-each.predicted, each.label))[:CLASSES]
    yield table(names, (_class(each) for each in ranked))
    confidence = percent(audit.limit_confidence)
    yield element("h3", f"Labels at a maximum error, with {confidence} confidence")
    names = ("max_error", "labelled of the archive", "score from", "answers", "wrong")
    yield table(names, (_limit(each) for each in found.limits))


def _row(first: Element | str, *counts: str) -> Element:
    return element("tr", element("td", first), *(element("td", text, class_="count") for text in counts))


def _class(each: AuditedClass) -> Element:
    images = f"{'–' if each.images is None else number(each.images)}"
    interval = f"{images} ({number(each.images_low)} to {number(each.images_high)})"
    shares = (f"{_value(share)} ({_interval(share)})" for share in (each.precision, each.recall))
    return _row(outside(each.label), number(each.predicted), interval, *shares)


def _limit(each: AuditedLimit) -> Element:
    score = "–" if each.threshold is None else f"{each.threshold:.4f}"
    answers = f"{number(each.answered)} of at least {number(each.needed)}"
    return _row(f"{each.max_error:g}", percent(each.share), score, answers, number(each.wrong))


def _value(share: AuditedShare) -> str:
    return percent(share.value)


def _interval(share: AuditedShare) -> str:
    return f"{percent(share.low)} to {percent(share.high)}"
