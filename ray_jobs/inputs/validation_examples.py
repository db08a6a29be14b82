"""The images of `support.validation`: hyperparameters and scores are chosen on them, nothing is learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster import Storage
from cluster.records.names import printable
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.classes import LabelSpace
from fewshot.data import SplitChoice
from fewshot.errors import DataError
from ray_jobs.errors import JobError
from ray_jobs.inputs.class_warnings import first_few
from ray_jobs.inputs.example_blocks import Examples
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import Labels, by_class, read_labels, support_options
from ray_jobs.job_file.sections import SupportSection

KEY = "support.validation"
VALIDATION_SPLIT = "val"


def validation_labels(section: SupportSection, space: LabelSpace, storage: Storage = DEFAULT_STORAGE) -> Labels | None:
    """Read the labels of the validation images; None if the job has none.

    Args:
        section: the job's [support].
        space: the classes of the examples.
        storage: how S3 is reached.

    Raises:
        DataError: they cannot be read as examples, there is none, or a class is not one of the examples.
        ClusterError: they cannot be read.
    """
    if section.validation is None:
        return None
    split = VALIDATION_SPLIT if section.validation == section.uri else None
    options = replace(support_options(section), split=SplitChoice(split, KEY), default_split=VALIDATION_SPLIT)
    found = read_labels(section.validation, section.classes, options=options, storage=storage)
    if not found.images:
        raise DataError(f"{section.validation} holds no labelled images")
    position = {name: index for index, name in enumerate(space.names)}
    names = [found.space.names[label] for label in found.labels]
    if unknown := sorted(set(names) - set(position)):
        raise DataError(f"{section.validation} has classes that [support] does not have: {first_few(unknown)}")
    return replace(found, space=space, labels=tuple(position[name] for name in names), schemes=section.schemes)


def read_validation(labels: Labels, support: Examples, *, folder: str) -> Examples:
    """Read the contents of validation images.

    Args:
        labels: the images with their classes.
        support: the examples.
        folder: of features without augmented views.

    Raises:
        JobError: one of them is an example, too, or none can be read.
        StorageError: storage does not respond.
    """
    contents = ExampleContents.read(labels)
    learned = set(support.contents)
    both = [image for image, digest in sorted(contents.digests.items()) if digest in learned]
    if both:
        found = f"{len(both)} of {len(contents.digests)} images are examples, too, such as {printable(both[0])}"
        why = "what is chosen on images that were learned from is too optimistic"
        raise JobError([f"[support] validation: {found}: {why}. Remove them from one of the two."])
    check_some_readable(labels, contents.reasons)
    return Examples.from_contents(contents, labels, by_class(labels), features=folder, views=0, dense=support.dense)


def check_some_readable(labels: Labels, reasons: Mapping[str, str]) -> None:
    """Check that there is an image to choose on.

    Args:
        labels: the validation images.
        reasons: why some of them cannot be read.

    Raises:
        JobError: none can be read.
    """
    if len(reasons) == len(set(labels.images)):
        image, reason = next(iter(reasons.items()))
        raise JobError([f"[support] validation: no image can be read, e.g. {printable(image)}: {reason}"])
