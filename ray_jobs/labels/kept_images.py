"""Copies of labelled images, beside the events: what a person saw is what is learned from.

So labels of members of tars, of rows of tables, or of an archive that changes can be learned from like files of a
folder. A label is written only after the copy is there. An image is copied once; if it changes under its key and is
labelled again, it gets another copy, which the new label names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cluster import Store, fingerprint
from cluster.records import ReferencesBeside, content_digest
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import ImageId, LabelEvent
from ray_jobs.output.layout import KEPT_IMAGES

WRITERS = 8
"""Images that are copied at a time."""
MARK = "labels:"
"""Begins references to these copies, in messages too."""


class Kept(NamedTuple):
    """A copy of an image.

    Attributes:
        content: what an event about the image has as `content`.
        is_new: whether it was not there before.
    """

    content: str | None
    is_new: bool


def kept_path(event: LabelEvent) -> str:
    """Return the path of the copy of the picture that was labelled."""
    return _path(event.image_id, event.content)


def keep_images(ledger: Store, images: Mapping[ImageId, bytes]) -> dict[ImageId, Kept]:
    """Copy images into a ledger; copies that are there stay as they are.

    Args:
        ledger: its folder.
        images: their contents.

    Returns:
        the copy of each image; one that has changed since its first copy was made has another.

    Raises:
        StorageError: they could not be written.
    """

    def keep(image: ImageId) -> Kept:
        data, first = images[image], _path(image)
        has_first = ledger.exists(first)
        content = content_digest(data) if has_first and ledger.get(first) != data else None
        path = _path(image, content)
        is_new = not has_first if content is None else not ledger.exists(path)
        if is_new:
            ledger.put(path, data)
        return Kept(content, is_new)

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="labels") as pool:
        return dict(zip(images, pool.map(keep, images), strict=True))


def without_copies(ledger: Store, events: Iterable[LabelEvent]) -> list[LabelEvent]:
    """Return those of some events whose images are not copied; the folder of the copies is listed once.

    Raises:
        StorageError: storage does not respond.
    """
    present = frozenset(ledger.list(KEPT_IMAGES))
    return [event for event in events if kept_path(event) not in present]


def check_kept(ledger: Store, events: Collection[LabelEvent]) -> None:
    """Check that there are copies of the images of events.

    Raises:
        JobError: some are missing.
    """
    if missing := sorted(event.image_id for event in without_copies(ledger, events)):
        found = f"{len(missing)} of {len(events)} labelled images have no copy in {ledger.url(KEPT_IMAGES)}"
        raise JobError([f"{found}, such as {missing[0].image}. Import their labels again: fewshot labels import."])


def kept_reference(event: LabelEvent) -> str:
    """Return the reference to the copy of an image, among the examples of a job: "labels:COPY:KEY"."""
    return f"{MARK}{_name(event.image_id, event.content)}:{event.image}"


def key_of_kept(reference: str, archive: str) -> str | None:
    """Return the key of the image whose copy a reference leads to.

    Args:
        reference: of an example.
        archive: identity of an archive.

    Returns:
        None if the reference leads to no copy, or to that of an image of another archive.
    """
    name, _, key = reference.removeprefix(MARK).partition(":")
    return key if reference.startswith(MARK) and name.startswith(_name(ImageId(archive, key))) else None


def references_beside(ledger: Store) -> ReferencesBeside:
    """Return how these references are read."""
    return ReferencesBeside(MARK, ledger.url(KEPT_IMAGES), ledger.storage)


def _path(image: ImageId, content: str | None = None) -> str:
    return f"{KEPT_IMAGES}/{_name(image, content)}"


def _name(image: ImageId, content: str | None = None) -> str:
    """Return the name of a copy: the first one of an image is named after archive and key alone."""
    return f"{fingerprint([image.archive, image.image])}{content or ''}"
