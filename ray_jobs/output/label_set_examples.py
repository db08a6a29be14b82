"""The examples behind label sets, in a file beside the card of their classifier.

The file follows from what names the classifier, but a job without label sets does not write it: it has the features of
all examples, and can be as large as these. So the card does not list it; it holds its own digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster import Store
from fewshot.digests import digest
from fewshot.errors import DataError
from ray_jobs.errors import DamagedError, JobError
from ray_jobs.output.layout import LABEL_SET_EXAMPLES

if TYPE_CHECKING:
    from fewshot.conformal import ConformalExamples

LABEL_SETS_VERSION = 1
"""Part of what names predictions with label sets: raised when equal examples give other sets."""
NO_EXAMPLES = (
    "label sets take the examples of the classifier {url}, and these are not beside it: run the job that trained it "
    'with guarantee = "conformal", which trains nothing again'
)


def label_sets_identity(label_set_error: float | None) -> list[object]:
    """Return what names predictions with label sets, beside their classifier; nothing without them."""
    return [] if label_set_error is None else [["label sets", LABEL_SETS_VERSION, label_set_error]]


def examples_path(classifier: str) -> str:
    """Return the path of the examples of a classifier, from its folder."""
    return f"{classifier}/{LABEL_SET_EXAMPLES}"


def put_examples(store: Store, classifier: str, examples: ConformalExamples, classes: Sequence[str]) -> None:
    """Store the examples of a classifier; writing them twice is harmless.

    Args:
        store: the output.
        classifier: its folder.
        examples: N examples of K classes.
        classes: K names, in label order.
    """
    from fewshot.conformal.example_file import save_examples

    store.put(examples_path(classifier), save_examples(examples, classes))


def examples_digest(store: Store, classifier: str) -> str:
    """Return the digest of the examples of a classifier. Raises FileNotFoundError if there are none."""
    return digest(store.get(examples_path(classifier)))


def load_examples(store: Store, classifier: str, classes: Sequence[str], *, is_own: bool) -> ConformalExamples:
    """Read the examples of a classifier.

    Args:
        store: where it lies.
        classifier: its folder.
        classes: its K classes, in label order.
        is_own: whether they are of this output: then damaged ones are removed, and the next run makes them anew.

    Raises:
        JobError: there are none.
        DamagedError: they are damaged.
    """
    from fewshot.conformal.example_file import load_examples as read

    path = examples_path(classifier)
    try:
        data = store.get(path)
    except FileNotFoundError as error:
        raise JobError([NO_EXAMPLES.format(url=store.url(classifier))]) from error
    try:
        return read(data, classes)
    except DataError as error:
        if not is_own:
            raise DamagedError(f"{store.url(path)} is damaged: {error}") from error
        store.delete(path)
        raise DamagedError(f"{store.url(path)} was damaged; run again to make it anew ({error})") from error
