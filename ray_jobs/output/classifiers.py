"""Classifiers in storage: a folder with tensors and a card, the card written last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cluster import Store
from fewshot.backbones import ClipSpec
from fewshot.errors import FewShotError
from ray_jobs.errors import DamagedError
from ray_jobs.output.feature_parts import removed_if_damaged

if TYPE_CHECKING:
    from fewshot.calibration.calibrated_classifier import CalibratedClassifier

CARD = "card.json"
TENSORS, TOKENS = "classifier.safetensors", "tokens"


def put_classifier(store: Store, folder: str, calibrated: CalibratedClassifier, card: Mapping[str, Any]) -> None:
    """Store a classifier. A folder with a card is complete."""
    from fewshot.inference.classifier_files import save_classifier

    _put_tokens(store, folder, calibrated)
    files = save_classifier(calibrated, card)
    for name in sorted(files, key=lambda name: name == CARD):
        store.put(f"{folder}/{name}", files[name])


def _put_tokens(store: Store, folder: str, calibrated: CalibratedClassifier) -> None:
    """Learned tokens, one file a class in the order of the card's classes, as diffusers and its users read them."""
    from fewshot.diffusion.tokens import TokenClassifier, placeholder, token_file

    if isinstance(classifier := calibrated.classifier, TokenClassifier):
        for label in classifier.tokens.any(dim=1).nonzero().flatten().tolist():
            file = token_file(placeholder(label), classifier.tokens[label])
            store.put(f"{folder}/{TOKENS}/{label:04d}.safetensors", file)


def get_threshold(store: Store, folder: str) -> float | None:
    """Return the threshold of a stored classifier, see `CalibratedClassifier`; only its card is read.

    Raises:
        DamagedError: its card is damaged, and was removed.
        FileNotFoundError: there is no such classifier.
    """
    threshold = _of_card(store, folder, "threshold")
    return None if threshold is None else float(threshold)


def get_unreadable_examples(store: Store, folder: str) -> dict[str, Any]:
    """Return the unreadable examples of a stored classifier, see `find_unreadable`. Raises as `get_threshold`."""
    return dict(_of_card(store, folder, "unreadable_examples"))


def _of_card(store: Store, folder: str, name: str) -> Any:
    path = f"{folder}/{CARD}"
    data = store.get(path)
    with removed_if_damaged(store, path):
        return json.loads(data)[name]


def get_classifier(store: Store, folder: str, spec: ClipSpec) -> CalibratedClassifier:
    """Load a classifier.

    Args:
        store: where it is.
        folder: its folder.
        spec: the backbone it was trained on; loaded only if the classifier needs a part of it.

    Raises:
        FileNotFoundError: there is none, or it is not complete.
        DamagedError: it is damaged, and no longer complete.
    """
    from fewshot.backbones import load_clip
    from fewshot.inference.classifier_files import backbone_parts, load_classifier, read_card

    files = {name: store.get(f"{folder}/{name}") for name in (CARD, TENSORS)}
    with _untrained_if_damaged(store, folder):
        needed = backbone_parts(read_card(files)["method"])
    clip = load_clip(spec) if needed else None
    with _untrained_if_damaged(store, folder):
        return load_classifier(files, **{name: getattr(clip, name) for name in needed})


@contextmanager
def _untrained_if_damaged(store: Store, folder: str) -> Iterator[None]:
    """While files of a classifier are read: if they are not what was written, remove the card.

    Raises:
        DamagedError: they are not.
    """
    try:
        yield
    except (FewShotError, KeyError) as error:
        store.delete(f"{folder}/{CARD}")
        message = f"the classifier {store.url(folder)} was damaged; run again to train it anew ({error})"
        raise DamagedError(message) from error
