"""Adapters in storage: one folder a class, in the format of PEFT, with a card that is written last.

Beside them is the class's context, the prompt as the text encoder encodes it with its adapters. So whoever scores reads
the UNet's adapters and the context, and neither reads the text encoder's adapters nor runs the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster import Store
from fewshot.digests import check_digest, digest
from ray_jobs.errors import DamagedError
from ray_jobs.output.layout import CARD, FILES, from_json, to_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fewshot.diffusion.lora import Pairs

CONTEXT = "context.safetensors"
"""A file beside the adapters."""


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


def put_adapter(
    store: Store, folder: str, files: Mapping[str, bytes], context: Tensor, card: Mapping[str, object]
) -> None:
    """Store the adapters of one class.

    Args:
        store: where.
        folder: of the class.
        files: from `fewshot.diffusion.lora.save_adapter`.
        context: [1, L, width] in the precision that the UNet takes it in.
        card: class, prompt, settings and result of the training, as JSON values.
    """
    from safetensors.torch import save

    files = {**files, CONTEXT: save({"context": context.cpu().contiguous()})}
    for name, content in sorted(files.items()):
        store.put(f"{folder}/{name}", content)
    digests = {name: digest(content) for name, content in sorted(files.items())}
    store.put(f"{folder}/{CARD}", to_json({**card, FILES: digests}))


def get_adapter(store: Store, folder: str, device: torch.device) -> tuple[Pairs, Tensor]:
    """Read the UNet's adapters of one class onto a device, and its context.

    Returns:
        adapters of one class in half precision, as they are stored, and the context [1, L, width] on the CPU.

    Raises:
        DamagedError: they are damaged; their card was removed, so that the next run trains them anew.
        FileNotFoundError: there are none.
    """
    from fewshot.diffusion.lora import UNET_FILES, LoraPair, load_unet_adapters

    card = store.get(f"{folder}/{CARD}")
    try:
        digests = from_json(card)[FILES]
        files = {name: store.get(f"{folder}/{name}") for name in (*UNET_FILES, CONTEXT)}  # Never the names in the card.
        for name, content in files.items():
            check_digest(content, digests[name])
        pairs = load_unet_adapters(files)
        adapters = {site: LoraPair(*(half.to(device) for half in pair)) for site, pair in pairs.items()}
        return adapters, _context(files[CONTEXT])
    except (KeyError, TypeError, ValueError, RecursionError, FileNotFoundError) as error:
        store.delete(f"{folder}/{CARD}")
        message = f"the adapters in {store.url(folder)} were damaged; run again to train them anew ({error})"
        raise DamagedError(message) from error


def _context(data: bytes) -> Tensor:
    """Return the tensor of a context's file.

    Raises:
        KeyError, ValueError: it has none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        context = load(data)["context"]
    except SafetensorError as error:
        raise ValueError(f"{CONTEXT} is not a safetensors file: {error}") from error
    if context.ndim != 3 or len(context) != 1 or not context.isfinite().all():
        raise ValueError(f"{CONTEXT} has no context [1, L, width] of finite numbers, but {list(context.shape)}")
    return context
