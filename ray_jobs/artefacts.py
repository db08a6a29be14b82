"""Classifiers in storage: a folder with tensors and a card, the card written last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster import Store

if TYPE_CHECKING:
    from fewshot.calibration import Calibrated

CARD = "card.json"
TENSORS = "classifier.safetensors"


def put_classifier(store: Store, folder: str, calibrated: Calibrated, card: Mapping[str, Any]) -> None:
    """Store a classifier. A folder with a card is complete."""
    from fewshot.artefacts import save_classifier

    files = save_classifier(calibrated, card)
    for name in sorted(files, key=lambda name: name == CARD):
        store.put(f"{folder}/{name}", files[name])


def get_classifier(store: Store, folder: str) -> Calibrated:
    """Load a classifier.

    Raises:
        FileNotFoundError: there is none, or it is not complete.
    """
    from fewshot.artefacts import load_classifier

    return load_classifier({name: store.get(f"{folder}/{name}") for name in (CARD, TENSORS)})
