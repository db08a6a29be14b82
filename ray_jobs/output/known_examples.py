"""The examples that images are compared with to find those of no class, in a file beside the card of their classifier.

The file follows from what names the classifier, but only jobs with `classifier.unknown` write it: it has the features
of all examples. So the card does not list it, and it holds its own digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors import SafetensorError, deserialize

from cluster import Store
from fewshot.digests import check_seal, digest
from fewshot.errors import DataError
from ray_jobs.errors import DamagedError
from ray_jobs.output.layout import UNKNOWN_TEST

if TYPE_CHECKING:
    from fewshot.problem import Labelled
    from fewshot.unknown import NearestExample


def known_examples_path(classifier: str) -> str:
    """Return the path of the examples beside a classifier, from its folder."""
    return f"{classifier}/{UNKNOWN_TEST}"


def put_known_examples(store: Store, classifier: str, images: Labelled) -> None:
    """Store the examples beside a classifier; writing them twice is harmless.

    Args:
        store: the output.
        classifier: its folder.
        images: the examples.
    """
    from fewshot.unknown import save_examples

    store.put(known_examples_path(classifier), save_examples(images))


def load_known_examples(store: Store, classifier: str) -> NearestExample:
    """Read the examples beside a classifier.

    Args:
        store: where it lies.
        classifier: its folder.

    Raises:
        FileNotFoundError: there are none.
        DamagedError: they are damaged.
    """
    from fewshot.unknown import load_examples

    path = known_examples_path(classifier)
    try:
        return load_examples(store.get(path), file=store.url(path))
    except DataError as error:
        raise DamagedError(str(error)) from error


def identify_known_examples(store: Store, classifier: str) -> tuple[int, str]:
    """Return the number of the examples beside a classifier, and the digest of their file; takes no torch.

    Raises:
        FileNotFoundError, DamagedError: as `load_known_examples`.
    """
    path = known_examples_path(classifier)
    data = store.get(path)
    try:
        check_seal(data)
        shapes = {name: tensor["shape"] for name, tensor in deserialize(data)}  # type: ignore[no-untyped-call]
        (examples,) = shapes["scores"]
    except (DataError, SafetensorError, KeyError, ValueError) as error:
        raise DamagedError(f"{store.url(path)} is damaged: {error}") from error
    return int(examples), digest(data)
