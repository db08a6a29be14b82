"""Images of an archive that a run's classifier learned from: an audit must not ask about them."""

from __future__ import annotations

from collections.abc import Iterable

from cluster import ClusterError
from cluster.records import archive_folder
from cluster.records.location import Location
from cluster.records.names import printable
from cluster.records.reading import ordered_map
from cluster.records.selection import content_digest
from fewshot.errors import FewShotError
from ray_jobs.errors import JobError
from ray_jobs.inputs.examples import ledger_of, support_labels
from ray_jobs.labels.kept_images import kept_path
from ray_jobs.labels.label_event import ImageId
from ray_jobs.labels.labelled_archive import LabelledArchive
from ray_jobs.output.feature_parts import READERS, view_table

STORED_BEFORE = (
    "The classifier was trained by another job: images of the archive that it may have learned from are not known, and"
    " not left out."
)


def learned_images(archive: LabelledArchive) -> tuple[frozenset[str], list[str]]:
    """Find the images of an archive that its run's classifier learned from.

    These are the examples of the job that lie in the archive's folder, and the images of the ledger that it learned
    from whose contents are among the run's examples: what was labelled after the run is not left out.

    Args:
        archive: of the run.

    Returns:
        keys of the images, and sentences about what could not be found out.

    Raises:
        StorageError: the output does not respond.
    """
    support = archive.job.support
    if support is None:
        return frozenset(), [STORED_BEFORE]
    notes, found = [], set[str]()
    try:
        labels = support_labels(support, archive.store.storage)
        found |= _in_archive(archive, [labels.selection.locate(image) for image in set(labels.images)])
    except (ClusterError, FewShotError, JobError) as error:
        notes.append(f"The examples cannot be read now ({error}): those of them in the archive are not left out.")
    return frozenset(found | _of_ledger(archive)), notes


def _in_archive(archive: LabelledArchive, places: Iterable[Location | None]) -> set[str]:
    """Keys of the places that lie in the folder of the archive; archives in other forms hold no examples."""
    if archive.source.kind not in ("folder", "glob") or archive.job.archive is None:
        return set()
    storage = archive.store.storage
    root = Location.parse(archive_folder(archive.job.archive.uri, storage), storage).uri.rstrip("/") + "/"
    uris = (place.uri for place in places if place is not None)
    return {printable(uri.removeprefix(root)) for uri in uris if uri.startswith(root)}


def _of_ledger(archive: LabelledArchive) -> set[str]:
    """Keys of images of the ledger that the run learned from."""
    ledger = ledger_of(archive.job)
    if ledger is None:
        return set()
    own = ledger.current().of_archive(archive.source.identity)
    images = [ImageId(archive.source.identity, key) for key, event in own.items() if event.answer == "label"]
    parts = archive.run.plan.example_parts if images else ()
    known = {name for part in parts for name in view_table(archive.store, part, columns=["image"])["image"].to_pylist()}

    def is_learned(image: ImageId) -> bool:
        try:
            return content_digest(ledger.store.get(kept_path(image))) in known
        except FileNotFoundError:
            return False

    learned = ordered_map(is_learned, images, READERS)
    return {image.image for image, was_learned in zip(images, learned, strict=True) if was_learned}
