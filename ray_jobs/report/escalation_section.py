"""The expensive opinion in a report: what was asked, what it was worth, and what the diffusion model saw."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from ray_jobs.report.charts import accuracy_by_cost, gaps_by_time, small_gaps_by_time
from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.escalated_images import EscalatedImage
from ray_jobs.report.markup import element, listing, number, outside, percent, plural, tile
from ray_jobs.report.report_data import Contents
from ray_jobs.results.escalation_summary import EscalationSummary, MeasuredEscalation


def escalation_section(contents: Contents) -> Iterator[Element]:
    """Tiles, charts and a few images; nothing for a run that asked no diffusion model."""
    escalated = contents.metrics.escalated
    if escalated is None:
        return
    yield element("h2", "The expensive opinion")
    yield element("p", _told(escalated), class_="note")
    yield listing(_tiles(escalated, contents.metrics.images), class_="tiles")
    if escalated.measured is not None:
        yield listing(_measured(escalated.measured), class_="tiles")
    if contents.seen is not None:
        yield element("div", *_charts(contents), class_="charts")
        yield from _shown(contents)


def _told(escalated: EscalationSummary) -> str:
    if not escalated.images:
        return f"{escalated.method} was asked about no image: none was doubtful, or the budget pays for none."
    return (
        f"{escalated.method} decided the least certain images, each among the classes that were likeliest to the "
        f"cheap method, by asking at up to {plural(escalated.time_steps, 'time-step')} which class explains it best."
    )


def _tiles(escalated: EscalationSummary, images: int) -> Iterator[Element]:
    asked, forwards, most = escalated.images, escalated.forwards, escalated.forwards_if_exhaustive
    changed = escalated.decided_otherwise
    yield tile("Asked about", number(asked), f"{percent(asked / images if images else None)} of the archive")
    yield tile("Label changed", number(changed), f"{percent(changed / asked if asked else None)} of them")
    share = percent(forwards / most if most else None)
    yield tile("Forwards spent", number(forwards), f"{share} of asking everything")
    if (calibration := escalated.calibration) is not None and calibration.images:
        yield tile(
            "In the exam",
            percent(calibration.accuracy),
            f"right of {plural(calibration.images, 'example')} not learned from",
        )
    learned = escalated.learned
    yield tile("Classes", number(escalated.classes), f"in question, {number(learned)} of them learned")


def _measured(measured: MeasuredEscalation) -> Iterator[Element]:
    known = plural(measured.labelled_images, "image")
    yield tile("Accuracy before", percent(measured.accuracy_before), "by the cheap method alone")
    yield tile("Accuracy", percent(measured.accuracy), "of the predictions")
    yield tile("Corrected", number(measured.corrected), f"of {known} with a given label", class_="ok")
    yield tile("Spoiled", number(measured.spoiled), "right before, wrong now", class_="unreadable")


def _charts(contents: Contents) -> Iterator[Element]:
    assert contents.seen is not None
    profile = contents.seen.profile
    told = element("figcaption", "Where the decisions fell: how much larger the runner-up's error is than the winner's")
    yield element("figure", told, gaps_by_time(profile.gaps, profile.counts))
    escalated = contents.metrics.escalated
    if escalated is not None and escalated.measured is not None:
        points = escalated.measured.curve
        told = element("figcaption", f"What other choices of max_fraction come to, {_ends(contents)}; without training")
        curve = accuracy_by_cost([p.forwards_an_image for p in points], [p.accuracy for p in points])
        yield element("figure", told, curve)


def _ends(contents: Contents) -> str:
    metrics = contents.metrics
    alone = metrics.escalated is not None and metrics.escalated.images == metrics.ok + metrics.abstained
    return f"from the cheap method alone to {'the diffusion model alone' if alone else 'this run'}"


def _shown(contents: Contents) -> Iterator[Element]:
    assert contents.seen is not None
    note = (
        "Bars by time-step, from little noise to nothing but noise: up where the winner explains the image better than "
        "the runner-up, down where it does not. Images whose label changed come first."
    )
    yield element("h3", "What the diffusion model saw")
    yield element("p", note, class_="note")
    yield listing([_card(asked, contents) for asked in contents.seen.shown], class_="cards")


def _card(asked: EscalatedImage, contents: Contents) -> Element:
    first, score = asked.first
    badge = element("span", "changed", class_="badge") if first != asked.label else None
    return element(
        "figure",
        picture(contents.pictures.get(asked.spot)),
        badge,
        element(
            "figcaption",
            element("p", outside(asked.label), class_="label"),
            element("p", "not ", outside(asked.runner_up, limit=KEY), class_="second"),
            element("p", "at first ", outside(first, limit=KEY), f" {score:.2f}", class_="second"),
            small_gaps_by_time(asked.profile.gaps, asked.profile.counts),
            element("p", f"{plural(asked.forwards, 'forward')}, margin {percent(asked.margin)}", class_="key"),
            element("p", outside(asked.image, limit=KEY), class_="key"),
        ),
        class_="card asked",
    )
