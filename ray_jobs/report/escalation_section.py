"""The escalation in a report: how many images, what it cost, how accurate it was, and a few images."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from ray_jobs.report.charts import CurvePoint, accuracy_by_cost, gaps_by_time, small_gaps_by_time
from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.escalated_images import EscalatedImage, EscalatedSample
from ray_jobs.report.markup import element, listing, number, outside, percent, plural, tile
from ray_jobs.report.report_data import Contents
from ray_jobs.results.classification_metrics import ClassificationMetrics
from ray_jobs.results.escalation_summary import EscalationSummary, MeasuredEscalation


def escalation_section(contents: Contents) -> Iterator[Element]:
    """Yield tiles, charts and a few images; nothing for a run without escalation."""
    metrics, sample = contents.metrics, contents.escalated
    if (escalated := metrics.escalated) is None:
        return
    yield element("h2", "Escalation")
    yield element("p", _note(escalated), class_="note")
    yield listing(_tiles(escalated, metrics.images), class_="tiles")
    if escalated.measured is not None:
        yield listing(_measured_tiles(escalated.measured), class_="tiles")
    if sample is not None:
        yield element("div", *_charts(sample, escalated, metrics), class_="charts")
        yield from _images(sample, contents)


def _note(escalated: EscalationSummary) -> str:
    if not escalated.images:
        return f"{escalated.method} scored no image: none was uncertain enough, or the budget pays for none."
    return (
        f"{escalated.method} decided the least certain images, each among the classes most probable by the cheap "
        f"method: the class with the smallest noise error over up to {plural(escalated.time_steps, 'time-step')} wins."
    )


def _tiles(escalated: EscalationSummary, images: int) -> Iterator[Element]:
    scored, forwards, most = escalated.images, escalated.forwards, escalated.forwards_if_exhaustive
    changed = escalated.labels_changed
    yield tile("Escalated", number(scored), f"{percent(scored / images if images else None)} of the archive")
    yield tile("Labels changed", number(changed), f"{percent(changed / scored if scored else None)} of them")
    share = percent(forwards / most if most else None)
    yield tile("Forwards", number(forwards), f"{share} of an exhaustive schedule")
    if (calibration := escalated.calibration) is not None and calibration.images:
        yield tile(
            "Calibration accuracy",
            percent(calibration.accuracy),
            f"on {plural(calibration.images, 'held-out example')}",
        )
    yield tile(
        "Classes", number(escalated.classes), f"candidates, {number(escalated.trained_classes)} with trained adapters"
    )


def _measured_tiles(measured: MeasuredEscalation) -> Iterator[Element]:
    known = plural(measured.labelled_images, "image")
    yield tile("Accuracy before", percent(measured.accuracy_before), "by the cheap method alone")
    yield tile("Accuracy", percent(measured.accuracy), "of the predictions")
    yield tile("Corrected", number(measured.corrected), f"of {known} with a given label", class_="ok")
    yield tile("Spoiled", number(measured.spoiled), "right before, wrong now", class_="unreadable")


def _charts(sample: EscalatedSample, escalated: EscalationSummary, metrics: ClassificationMetrics) -> Iterator[Element]:
    by_time = "Error gap by time-step: how much larger the runner-up's noise error is than the winner's"
    yield element("figure", element("figcaption", by_time), gaps_by_time(sample.profile.gaps, sample.profile.counts))
    if escalated.measured is not None:
        alone = escalated.images == metrics.ok + metrics.abstained
        ends = f"from the cheap method alone to {'the diffusion model alone' if alone else 'this run'}"
        caption = f"Accuracy by cost for other values of max_fraction, {ends}; training is not counted"
        points = [CurvePoint(point.forwards_an_image, point.accuracy) for point in escalated.measured.curve]
        yield element("figure", element("figcaption", caption), accuracy_by_cost(points))


def _images(sample: EscalatedSample, contents: Contents) -> Iterator[Element]:
    note = (
        "Bars by time-step, from little noise to nothing but noise: up where the winner explains the image better than "
        "the runner-up, down where it does not. Images whose label changed come first."
    )
    yield element("h3", "Escalated images")
    yield element("p", note, class_="note")
    yield listing([_card(image, contents) for image in sample.images], class_="cards")


def _card(image: EscalatedImage, contents: Contents) -> Element:
    cheap_label, cheap_score = image.cheap
    badge = element("span", "changed", class_="badge") if cheap_label != image.label else None
    before = None if cheap_score is None else f" {cheap_score:.2f}"
    return element(
        "figure",
        picture(contents.pictures.get(image.spot)),
        badge,
        element(
            "figcaption",
            element("p", outside(image.label), class_="label"),
            element("p", "runner-up ", outside(image.runner_up, limit=KEY), class_="second"),
            element("p", "before ", outside(cheap_label, limit=KEY), before, class_="second"),
            small_gaps_by_time(image.profile.gaps, image.profile.counts),
            element("p", f"{plural(image.forwards, 'forward')}, margin {percent(image.margin)}", class_="key"),
            element("p", outside(image.image, limit=KEY), class_="key"),
        ),
        class_="card escalated",
    )
