"""Copies of labelled images, beside the events: what a person saw is what is learned from.

So labels of members of tars, of rows of tables, or of an archive that changes can be learned from like files of a
folder. An image is copied once; a label is written only after the copy is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from cluster import Store, fingerprint
from cluster.records import ReferencesBeside
from ray_jobs.errors import JobError
from ray_jobs.labels.label_event import ImageId
from ray_jobs.output.layout import KEPT_IMAGES

WRITERS = 8
"""Images that are copied at a time."""
MARK = "labels:"
"""Begins references to these copies, in messages too."""


def kept_path(image: ImageId) -> str:
    """Return the path of the copy of an image in the ledger."""
    return f"{KEPT_IMAGES}/{_name(image)}"


def keep_images(ledger: Store, images: Mapping[ImageId, bytes]) -> int:
    """Copy images into a ledger; those that are there stay as they are.

    Args:
        ledger: its folder.
        images: their contents.

    Returns:
        the number of images that were copied.

    Raises:
        StorageError: they could not be written.
    """

    def keep(image: ImageId) -> bool:
        is_new = not ledger.exists(kept_path(image))
        if is_new:
            ledger.put(kept_path(image), images[image])
        return is_new

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="labels") as pool:
        return sum(pool.map(keep, images))


def kept_images(ledger: Store, images: Iterable[ImageId]) -> frozenset[ImageId]:
    """Return those of some images that are copied; their folder is listed once.

    Raises:
        StorageError: storage does not respond.
    """
    present = frozenset(ledger.list(KEPT_IMAGES))
    return frozenset(image for image in images if kept_path(image) in present)


def check_kept(ledger: Store, images: Collection[ImageId]) -> None:
    """Check that there are copies of images.

    Raises:
        JobError: some are missing.
    """
    if missing := sorted(set(images) - kept_images(ledger, images)):
        found = f"{len(missing)} of {len(images)} labelled images have no copy in {ledger.url(KEPT_IMAGES)}"
        raise JobError([f"{found}, such as {missing[0].image}. Import their labels again: fewshot labels import."])


def kept_reference(image: ImageId) -> str:
    """Return the reference to the copy of an image, among the examples of a job: "labels:COPY:KEY"."""
    return f"{MARK}{_name(image)}:{image.image}"


def key_of_kept(reference: str, archive: str) -> str | None:
    """Return the key of the image whose copy a reference leads to.

    Args:
        reference: of an example.
        archive: identity of an archive.

    Returns:
        None if the reference leads to no copy, or to that of an image of another archive.
    """
    _, _, key = reference.removeprefix(MARK).partition(":")
    return key if reference == kept_reference(ImageId(archive, key)) else None


def references_beside(ledger: Store) -> ReferencesBeside:
    """Return how these references are read."""
    return ReferencesBeside(MARK, ledger.url(KEPT_IMAGES), ledger.storage)


def _name(image: ImageId) -> str:
    return fingerprint([image.archive, image.image])
