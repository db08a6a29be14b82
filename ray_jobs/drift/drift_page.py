"""What a comparison says, in sentences and as a page with the images most unlike the reference."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from cluster.secrets import redacted
from fewshot.drift import LEAST
from ray_jobs.drift.check_drift import DriftCheck
from ray_jobs.drift.drift_store import DriftStore
from ray_jobs.output.layout import Spot
from ray_jobs.report.contact_sheet import KEY, picture
from ray_jobs.report.markup import element, listing, outside, percent, plural, table
from ray_jobs.report.page_templates import render_sections
from ray_jobs.report.pictures import archive_pictures
from ray_jobs.results.drift_result import DriftFinding, DriftNight, DriftReference, UnlikeImage
from ray_jobs.suggestion.embedded_run import EmbeddedRun

logger = logging.getLogger(__name__)
MEANINGS = {
    "features": "a new image can be told from one of the reference",
    "novel": "new images that score above 95 % of the reference",
    "classes": "difference of the shares of predicted classes",
    "withheld": "images that are abstained or unknown",
}
TITLE = "Drift"


def sentences_of(check: DriftCheck) -> tuple[str, ...]:
    """Return what came of a check, for people."""
    reference, night = check.reference, check.night
    of_version = "" if reference.version is None else f" of version {reference.version}"
    head = f"reference {reference.number}{of_version}, {plural(reference.images, 'image')} of {reference.time[:10]}"
    match check.did:
        case "reference":
            return (f"kept {head}: later passes are compared with it",)
        case "waiting" if reference.images < LEAST:
            return (f"{head}, is too small to compare with: the first archive of {LEAST} images takes its place",)
        case "waiting":
            missing = f"nothing is compared yet: that takes {LEAST} new images at least, and those that came count then"
            return (f"{plural(check.came, 'image')} came since {head}", missing)
    assert night is not None
    came = "no image came since that night" if check.did == "unchanged" else f"{plural(night.came, 'image')} came"
    sums = f"night {night.number}: {came}; {plural(night.since, 'image')} since {head}"
    if not night.alarms:
        return sums, "no alarm"
    return (sums, *(f"ALARM: {sentence_of(finding)}" for finding in night.alarms))


def sentence_of(finding: DriftFinding) -> str:
    """Return what a finding says, with its numbers."""
    window = f"the newest {plural(finding.images, 'image')}"
    p_value = f"p = {finding.p_value:.2g}, needed {finding.level:.2g}"
    match finding.statistic:
        case "features":
            said = f"{window} can be told from the reference, AUC {finding.value:.2f} (from {finding.floor:.2f})"
        case "novel":
            share, usual = percent(finding.value), percent(finding.reference)
            said = f"{share} of {window} are unlike the reference, {usual} expected"
        case "classes":
            said = f"predicted classes of {window} have other shares, {percent(finding.effect)} apart"
        case _:
            share, usual = percent(finding.value), percent(finding.reference)
            said = f"{share} of {window} have no label, {usual} of the reference"
    return f"{said} ({p_value})"


def write_page(embedded: EmbeddedRun, drift: DriftStore, reference: DriftReference, night: DriftNight) -> str | None:
    """Write the page of a night. It never fails a check: whatever goes wrong is logged.

    Returns:
        its URL; None if it could not be written.
    """
    path = drift.page(night)
    try:
        drift.store.put(path, render_drift(reference, night, _pictures(embedded, night.unlike)))
    except Exception as error:  # noqa: BLE001 -- the boundary between the check and a page to look at
        logger.warning("no page night=%d error=%s", night.number, redacted(f"{type(error).__name__}: {error}"))
        return None
    return drift.store.url(path)


def _pictures(embedded: EmbeddedRun, images: Sequence[UnlikeImage]) -> Mapping[Spot, str]:
    wanted: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for image in images:
        wanted[image.shard][image.row] = image.image
    return (
        {} if embedded.job.archive is None else archive_pictures(embedded.job.archive, wanted, embedded.store.storage)
    )


def render_drift(reference: DriftReference, night: DriftNight, pictures: Mapping[Spot, str]) -> bytes:
    """Return the page of a night.

    Args:
        reference: that was compared with.
        night: the comparison.
        pictures: by place in the archive, data URIs, as far as there are any.
    """
    heading = element("h1", f"{TITLE}, night {night.number}")
    sections = [_summary(reference, night), _unlike(night, pictures), _findings(night)]
    return render_sections(f"{TITLE}, night {night.number}", sections, heading=heading)


def _summary(reference: DriftReference, night: DriftNight) -> Iterator[Element]:
    check = DriftCheck("compared", reference, night, night.came)
    for sentence in sentences_of(check):
        yield element("p", outside(sentence, limit=300))


def _unlike(night: DriftNight, pictures: Mapping[Spot, str]) -> Iterator[Element]:
    yield element("h2", "Most unlike the reference")
    note = (
        "The new images that a discriminant, trained on other images, tells from the reference most easily, with their"
        " predicted classes; of nearly the same images one. Without an alarm they are what they are in any night: some"
        " images have to be the most unlike."
    )
    yield element("p", note, class_="note")
    cards = (_card(image, pictures.get(Spot(image.shard, image.row))) for image in night.unlike)
    yield listing(cards, class_="cards")


def _card(image: UnlikeImage, data: str | None) -> Element:
    withheld = image.status not in (None, "ok")
    return element(
        "figure",
        picture(data),
        element("span", image.status, class_="badge") if withheld else None,
        element(
            "figcaption",
            element("p", outside(image.label or "–"), class_="label"),
            element("p", outside(image.image, limit=KEY), class_="key"),
        ),
        class_="card abstained" if withheld else "card",
    )


def _findings(night: DriftNight) -> Iterator[Element]:
    yield element("h2", "What was compared")
    names = ("statistic", "newest images", "reference", "now", "effect", "from", "p-value", "needed", "alarm")
    yield table(names, map(_row, night.findings))


def _row(finding: DriftFinding) -> Element:
    def shown(value: float) -> str:
        return f"{value:.2f}" if finding.statistic == "features" else percent(value)

    values = (
        str(finding.images),
        shown(finding.reference),
        shown(finding.value),
        shown(finding.effect),
        shown(finding.floor),
        f"{finding.p_value:.2g}",
        f"{finding.level:.2g}",
    )
    return element(
        "tr",
        element("td", MEANINGS[finding.statistic]),
        *(element("td", value, class_="count") for value in values),
        element("td", "yes" if finding.alarm else "no"),
    )
