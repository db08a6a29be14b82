"""Adapters in storage: one folder a class, in the format of PEFT, with a card that is written last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster import Store
from fewshot.digests import check_digest, digest
from ray_jobs.errors import DamagedError
from ray_jobs.output.layout import CARD, FILES, from_json, to_json

if TYPE_CHECKING:
    import torch

    from fewshot.diffusion.lora import StackedLora


def adapter_folder(method: str, fingerprint: str) -> str:
    """Return the folder of the adapters of one class."""
    return f"adapters/{method}/{fingerprint}"


def is_trained(store: Store, folder: str) -> bool:
    """Return whether the adapters of a class are complete."""
    return store.exists(f"{folder}/{CARD}")


def trained_folders(store: Store, method: str) -> frozenset[str]:
    """Return the folders of all complete adapters of a method, by one listing."""
    paths = (path.rpartition("/") for path in store.list(f"adapters/{method}"))
    return frozenset(folder for folder, _, name in paths if name == CARD)


def put_adapter(store: Store, folder: str, files: Mapping[str, bytes], card: Mapping[str, object]) -> None:
    """Store the adapters of one class.

    Args:
        store: where.
        folder: of the class.
        files: from `fewshot.diffusion.lora.save_adapter`.
        card: class, prompt, settings and result of the training, as JSON values.
    """
    for name, content in sorted(files.items()):
        store.put(f"{folder}/{name}", content)
    digests = {name: digest(content) for name, content in sorted(files.items())}
    store.put(f"{folder}/{CARD}", to_json({**card, FILES: digests}))


def get_adapter(store: Store, folder: str, device: torch.device) -> StackedLora:
    """Read the adapters of one class onto a device.

    Raises:
        DamagedError: they are damaged; their card was removed, so that the next run trains them anew.
        FileNotFoundError: there are none.
    """
    from fewshot.diffusion.lora import ADAPTER_FILES, load_adapters

    card = store.get(f"{folder}/{CARD}")
    try:
        digests = from_json(card)[FILES]
        files = {name: store.get(f"{folder}/{name}") for name in ADAPTER_FILES}  # Never the names in the card.
        for name, content in files.items():
            check_digest(content, digests[name])
        return load_adapters([files]).mapped(lambda tensor: tensor.to(device))
    except (KeyError, TypeError, ValueError, RecursionError, FileNotFoundError) as error:
        store.delete(f"{folder}/{CARD}")
        message = f"the adapters in {store.url(folder)} were damaged; run again to train them anew ({error})"
        raise DamagedError(message) from error
