"""The page of a classification: its sections, the most important first."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from cluster.secrets import public_url
from fewshot.backbones import ClipSpec
from ray_jobs.output.layout import CLASS_TABLE, FAILURES, JOB, METRICS, PLAN, REPORT, WORK_PAGE
from ray_jobs.report.audit_section import audit_section
from ray_jobs.report.charts import histogram, reliability
from ray_jobs.report.contact_sheet import contact_sheet, image
from ray_jobs.report.escalation_section import escalation_section
from ray_jobs.report.headline import headline
from ray_jobs.report.label_set_words import label_set_sections
from ray_jobs.report.markup import bar, element, listing, number, outside, percent, plural, table
from ray_jobs.report.near_copies_section import copies_section, leaks_section
from ray_jobs.report.page_templates import render_sections
from ray_jobs.report.pictures import EXAMPLE_SIDE
from ray_jobs.report.report_data import Contents
from ray_jobs.report.wrong_labels_section import mistakes_section, odd_examples_section
from ray_jobs.results.classification_metrics import ClassificationMetrics, HeldOut
from ray_jobs.results.escalation_summary import EscalationSummary

BEFORE_THE_TEST = "All this is said of images of the classes, unknown ones included, which have no label in any case."
"""What scores and `max_error` promise beside the test of images of no class."""
REASONS = 40
"""Reasons shown at most."""
WITHOUT_SCORES = (
    "No label has a score: with one example of each class, or none, there is nothing to calibrate scores on. Images "
    "are sorted by their margins, whose order says which labels are the most certain."
)


def render(contents: Contents) -> bytes:
    """Render the page, one self-contained file.

    Returns:
        HTML in UTF-8, below 1 MB: everything in it is bounded in number and in length.
    """
    sections = (
        headline(contents),
        audit_section(contents.audit),
        *label_set_sections(contents.metrics.label_sets),
        _scores(contents.metrics),
        mistakes_section(contents),
        escalation_section(contents),
        contact_sheet(contents),
        _labels(contents),
        odd_examples_section(contents),
        leaks_section(contents),
        copies_section(contents),
        _reasons(contents),
        _settings(contents),
    )
    return render_sections(contents.job.job.name, sections)


def _scores(metrics: ClassificationMetrics) -> Iterator[Element]:
    yield element("h2", "How sure the labels are")
    yield element("p", _promise(metrics), class_="note")
    if _has_no_scores(metrics):
        return  # The charts would be empty.
    if metrics.escalated is not None and metrics.escalated.images:
        yield element("p", _without_promise(metrics.escalated), class_="note")
    key = [element("span", "labelled", class_="key-ok"), element("span", "abstained", class_="key-abstained")]
    bars = histogram(metrics.score_histogram, metrics.threshold)
    charts = [element("figure", element("figcaption", "Images by score ", *key), bars)]
    if metrics.reliability is not None:
        caption = element("figcaption", "Accuracy by score: on the line, a score means what it says")
        charts.append(element("figure", caption, reliability(metrics.reliability)))
    yield element("div", *charts, class_="charts")
    if metrics.labelled_shares and metrics.held_out.images and metrics.label_sets is None:
        held_out = plural(metrics.held_out.images, "held-out example")
        yield element("p", f"What another max_error would label, by {held_out}:", class_="note")
        yield _shares(metrics)


def _has_no_scores(metrics: ClassificationMetrics) -> bool:
    return metrics.mean_score is None and not metrics.held_out.calibrates


def _promise(metrics: ClassificationMetrics) -> str:
    promise = _promise_of_scores(metrics)
    return promise if metrics.unknown is None else f"{promise} {BEFORE_THE_TEST}"


def _promise_of_scores(metrics: ClassificationMetrics) -> str:
    threshold, held_out = metrics.threshold, metrics.held_out
    score = (
        WITHOUT_SCORES if _has_no_scores(metrics) else "A score is the calibrated probability that the label is right."
    )
    if metrics.label_sets is not None:
        return f"{score} Labels are withheld by label sets, whatever their score."
    if metrics.audited is not None:
        return f"{score} {metrics.audited.sentence()}."
    if threshold is None:
        return f"{score} No label is withheld: the job sets no max_error.{_bounded(held_out)}"
    wrong, confidence = (f"{100 * (share or 0.0):g}\u00a0%" for share in (held_out.max_error, held_out.confidence))
    target = f"at most {wrong} of the labels given are wrong, with {confidence} confidence"
    if threshold > 1:
        return f"{score} No threshold can guarantee that {target}, so every label is withheld."
    uncertain = "The least certain labels" if _has_no_scores(metrics) else f"Labels below {threshold:.2f}"
    kept = f"{uncertain} are withheld so that {target}"
    return f"{score} {kept}, as far as the archive is like the examples."


def _bounded(held_out: HeldOut) -> str:
    """The upper bound of the error rate where no label is withheld."""
    if held_out.error_bound is None or held_out.confidence is None:
        return ""
    wrong, confidence = percent(held_out.error_bound), f"{100 * held_out.confidence:g}\u00a0%"
    return f" At most {wrong} are wrong, with {confidence} confidence, as far as the archive is like the examples."


def _shares(metrics: ClassificationMetrics) -> Element:
    """A table of what would be labelled at several maximum error rates."""
    names = ("max_error", "held-out examples needed", "labelled of those held out", "labelled of the archive")
    rows = (
        element(
            "tr",
            element("td", f"{share.max_error:g}"),
            element("td", number(share.needed), class_="count"),
            element("td", percent(share.held_out_share), class_="count"),
            element("td", percent(share.archive_share), class_="count"),
        )
        for share in metrics.labelled_shares
    )
    return table(names, rows)


def _without_promise(escalated: EscalationSummary) -> str:
    decided, method = plural(escalated.images, "image"), escalated.method
    if escalated.calibration is not None and escalated.calibration.temperature:
        examples = plural(escalated.calibration.images, "example")
        return f"Scores of what {method} decided ({decided}) are calibrated on {examples} that it was not trained on."
    return f"What {method} decided ({decided}) has no score, is in no chart here, and is under no guarantee."


def _labels(contents: Contents) -> Iterator[Element]:
    counts = contents.metrics.labels
    occur = f"{number(len(counts))} of {plural(contents.plan.classes, 'class', 'classes')} occur."
    beside = "Beside each label is one of its examples." if contents.examples else ""
    yield element("h2", "Labels")
    yield element("p", f"{occur} Withheld labels are counted too. {beside}".rstrip(), class_="note")
    most = max((count for _, count in contents.labels), default=1)
    yield listing((_label(name, count, most, contents) for name, count in contents.labels), class_="labels")
    if len(counts) > len(contents.labels):
        rest = sum(counts.values()) - sum(count for _, count in contents.labels)
        others = plural(len(counts) - len(contents.labels), "other label")
        yield element("p", f"and {others} of {plural(rest, 'image')} together", class_="note")
    if contents.has_class_pages:
        page = posixpath.relpath(CLASS_TABLE, posixpath.dirname(REPORT))
        yield element("p", element("a", "All classes, with their images", href=page), class_="note")
    else:
        command = element("code", "fewshot report --pages")
        yield element("p", "A page for each class, with its images: ", command, class_="note")


def _label(name: str, count: int, most: int, contents: Contents) -> Element:
    example = contents.examples.get(name)
    return element(
        "div",
        element("span", image(example, side=EXAMPLE_SIDE) if example else None, class_="example"),
        element("span", outside(name), class_="label"),
        bar(count / most),
        element("span", number(count), class_="count"),
        class_="row",
    )


def _reasons(contents: Contents) -> Iterator[Element]:
    if not contents.reasons:
        return
    yield element("h2", "What could not be read")
    rows = [
        element(
            "tr",
            element("td", number(reason.images), class_="count"),
            element("td", outside(reason.text, limit=160)),
            element("td", outside(reason.examples[0].image), class_="key"),
        )
        for reason in contents.reasons[:REASONS]
    ]
    yield table(("images", "reason", "for example"), rows)
    if len(contents.reasons) > REASONS:
        yield element("p", f"and {plural(len(contents.reasons) - REASONS, 'other reason')}", class_="note")


def _settings(contents: Contents) -> Iterator[Element]:
    yield element("h2", "How it was made")
    terms = (
        node
        for name, value in _facts(contents)
        for node in (element("dt", name), element("dd", outside(str(value), limit=160)))
    )
    yield element("dl", *terms)
    names = (JOB, PLAN, METRICS, FAILURES)
    links = (node for name in names for node in (" · ", element("a", name, href=f"../{name}")))
    yield element("p", "Beside this page: ", *list(links)[1:], class_="note")
    if contents.work is not None:
        took = element("a", "What ran where, and how long", href=posixpath.basename(WORK_PAGE))
        yield element("p", took, class_="note")
    command = element("code", f"fewshot classify {JOB}")
    versions = "with the versions above on the same kind of machine, it gives the same bytes"
    yield element("p", "To make it again: ", command, f"; {versions}.", class_="note")


def _growth(metrics: ClassificationMetrics) -> str:
    """How the temperature grows with the spread of the logits, see `fewshot.calibration.temperature`."""
    if not metrics.spread_power:
        return ""
    return f" · max(1, spread of the logits / {metrics.least_spread:.3g})^{metrics.spread_power:g}"


def _backbone(clip: ClipSpec) -> str:
    models = " + ".join(" ".join(filter(None, (tower.model, tower.pretrained))) for tower in clip.towers)
    return f"{models} {clip.precision}"


def _facts(contents: Contents) -> Iterator[tuple[str, object]]:
    job, metrics = contents.job, contents.metrics
    yield "run", contents.run
    yield "method", metrics.method
    yield from metrics.hyperparameters.items()
    yield "temperature", f"{metrics.temperature:.3g}{_growth(metrics)}"
    yield "backbone", _backbone(job.clip)
    if job.archive is not None:
        yield "archive", public_url(job.archive.uri)
    if job.classifier.from_ is not None:
        yield "classifier", public_url(job.classifier.from_)
    if job.support is not None:
        yield "examples", public_url(job.support.uri)
        if ledger := job.support.labels:
            yield "labels", "the ledger of the output" if ledger is True else public_url(ledger)
        yield "shots", "all" if job.support.shots is None else f"at most {job.support.shots} a class"
        yield "seed", job.support.seed
        yield "views", job.views
    yield from ((f"{name} version", version) for name, version in metrics.versions.items())
