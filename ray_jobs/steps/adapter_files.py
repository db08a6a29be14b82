"""Adapters in storage: one class a folder, in the format of PEFT, with a card that is written last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster import Store
from ray_jobs.errors import DamagedError
from ray_jobs.output.layout import to_json

if TYPE_CHECKING:
    import torch

    from fewshot.diffusion.lora import StackedLora

CARD = "card.json"
"""Of a class: written last, so a folder with a card is complete."""
FILES = "files"


def adapter_folder(method: str, fingerprint: str) -> str:
    """Where the adapters of one class lie."""
    return f"adapters/{method}/{fingerprint}"


def is_trained(store: Store, folder: str) -> bool:
    """Whether a class's adapters are complete."""
    return store.exists(f"{folder}/{CARD}")


def trained(store: Store, method: str) -> frozenset[str]:
    """Folders of all classes whose adapters are complete, by one listing."""
    paths = (path.rpartition("/") for path in store.list(f"adapters/{method}"))
    return frozenset(folder for folder, _, name in paths if name == CARD)


def put_adapter(store: Store, folder: str, files: Mapping[str, bytes], card: Mapping[str, Any]) -> None:
    """Store one class.

    Args:
        store: where.
        folder: of the class.
        files: of `fewshot.diffusion.lora.save_adapter`.
        card: what people want to know of it: JSON values.
    """
    for name, content in sorted(files.items()):
        store.put(f"{folder}/{name}", content)
    store.put(f"{folder}/{CARD}", to_json({**card, FILES: sorted(files)}))


def get_adapter(store: Store, folder: str, device: torch.device) -> StackedLora:
    """One class's adapters, on a device.

    Raises:
        DamagedError: they are damaged; their card was removed, so that the next run trains them anew.
        FileNotFoundError: there are none.
    """
    from fewshot.diffusion.lora import ADAPTER_FILES, load_adapters
    from fewshot.errors import DataError

    if not is_trained(store, folder):
        raise FileNotFoundError(store.url(f"{folder}/{CARD}"))
    try:
        files = {name: store.get(f"{folder}/{name}") for name in ADAPTER_FILES}  # not what a card may name
        return load_adapters([files]).mapped(lambda tensor: tensor.to(device))
    except (DataError, FileNotFoundError) as error:
        store.delete(f"{folder}/{CARD}")
        message = f"{store.url(folder)} was damaged and is to be trained anew; run again ({error})"
        raise DamagedError(message) from error
