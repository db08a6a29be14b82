"""Ground-truth labels, which predictions are measured against, and the images that were learned from and are not."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

from cluster import Storage
from cluster.records import Source, archive_folder
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.storage.settings import DEFAULT_STORAGE, S3_SCHEMES
from fewshot.data import SplitChoice
from fewshot.data.example import plain_path
from fewshot.errors import DataError
from ray_jobs.inputs.example_tables import LabelOptions
from ray_jobs.inputs.examples import Labels, read_labels
from ray_jobs.job_file.sections import ArchiveSection
from ray_jobs.labels.kept_images import key_of_kept
from ray_jobs.results.classification_metrics import GivenLabels

STORED_BEFORE = (
    "The classifier is a stored one ([classifier] from): images of the archive that it may have learned from are not"
    " known, and not left out."
)


def read_given_labels(section: ArchiveSection, storage: Storage = DEFAULT_STORAGE) -> Labels | None:
    """Read the labels of an archive; None if none are given.

    Args:
        section: names a table of image,label, a splits.json, or a folder per class.
        storage: how S3 is reached.

    Raises:
        DataError: it is none of these, or has several splits and none was chosen.
        ClusterError: it cannot be read.
    """
    if not section.labels:
        return None
    choice = SplitChoice(section.labels_split, "archive.labels_split")
    folder = posixpath.dirname(section.labels) or "."  # Of no use: keys are compared, and no image is read.
    options = LabelOptions(split=choice, default_split=None, images=folder)
    labels = read_labels(section.labels, options=options, storage=storage)
    if labels.image_column is not None:
        raise DataError(
            f"{section.labels} holds images (column {labels.image_column!r}); expected a table with the keys of images,"
            " as they appear in the predictions, and their labels"
        )
    return labels


def read_ground_truth(
    section: ArchiveSection, names: tuple[str, ...], storage: Storage = DEFAULT_STORAGE
) -> dict[str, int] | None:
    """Read labels to measure against.

    Args:
        section: the archive.
        names: the K classes.
        storage: how S3 is reached.

    Returns:
        image key, as `plain_path` writes it, -> index of its class, -1 for a class that is not among the K; None if no
        labels are given.

    Raises:
        DataError, ClusterError: see `read_given_labels`.
    """
    index = {name: i for i, name in enumerate(names)}
    given = given_names(section, storage)
    return None if given is None else {image: index.get(name, -1) for image, name in given.items()}


def given_names(section: ArchiveSection, storage: Storage = DEFAULT_STORAGE) -> dict[str, str] | None:
    """Read labels as names, of whatever classes; None if none are given. Raises as `read_given_labels`.

    Returns:
        image key, as `plain_path` writes it, -> name of its class.
    """
    labels = read_given_labels(section, storage)
    if labels is None:
        return None
    names = labels.space.names
    return {image: names[label] for image, label in zip(_keys(labels.images), labels.labels, strict=True)}


def _keys(images: Sequence[str]) -> Sequence[str]:
    """Return keys with slashes for the backslashes of a table that was made on Windows: one with no slash in it.

    A backslash can also be part of a key, where it escapes a character that cannot be shown.
    """
    if any("/" in image for image in images):
        return images
    return [plain_path(image.replace("\\", "/")) for image in images]


def learned_images(examples: Labels, section: ArchiveSection, source: Source) -> tuple[str, ...]:
    """Return the images of an archive that are examples.

    These are images of the ledger of labels, and examples that lie in the archive's folder. Examples in tars, zips and
    tables are not recognised, nor are copies of an image in another place.

    Args:
        examples: of the job.
        section: the archive.
        source: the same, opened.

    Returns:
        keys as the predictions have them, in ascending order.
    """
    kept = (key_of_kept(image, source.identity) for image in set(examples.images))
    return tuple(sorted({key for key in kept if key is not None} | _in_folder(examples, section, source)))


def _in_folder(examples: Labels, section: ArchiveSection, source: Source) -> set[str]:
    """Return the keys of examples that lie in the folder of the archive; archives in other forms hold none."""
    if source.kind not in ("folder", "glob"):
        return set()
    storage = examples.storage
    roots = {
        f"{each.rstrip('/')}/" for each in _spellings(Location.parse(archive_folder(section.uri, storage), storage))
    }
    places = map(examples.selection.locate, set(examples.images))
    uris = {uri for place in places if place is not None for uri in _spellings(place)}
    return {printable(uri.removeprefix(root)) for uri in uris for root in roots if uri.startswith(root)}


def _spellings(place: Location) -> set[str]:
    """Return a place as it is written, without detours (`..`), and without symbolic links."""
    if not place.is_local:
        return {f"s3://{place.uri.partition('://')[2]}" if place.scheme in S3_SCHEMES else place.uri}
    return {place.uri, os.path.normpath(place.uri), os.path.realpath(place.uri)}


def unused_labels(given: GivenLabels | None, *, is_tested: bool = False) -> list[str]:
    """Say why given labels are not measured with, a sentence each; none where all are, or none were given.

    Args:
        given: the labels.
        is_tested: whether images were tested for being of no class, which labels of other classes measure.
    """
    if given is None:
        return []
    reasons = []
    if given.learned_from:
        reasons.append(
            "1 image with a given label was learned from and does not count."
            if given.learned_from == 1
            else f"{given.learned_from:,} images with given labels were learned from and do not count."
        )
    if (unmatched := given.given - given.found) > 0:
        reasons.append(
            f"{unmatched} of {given.given} ground-truth labels match no image; use the image keys as they appear in the"
            " predictions."
        )
    if given.of_other_classes and not is_tested:
        reasons.append(
            f"{given.of_other_classes} ground-truth labels are of classes that the classifier does not have; their"
            " images are not measured."
        )
    return reasons
