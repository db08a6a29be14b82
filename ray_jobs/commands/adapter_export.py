"""Adapters of an output as files for other programs: one file a class, which pipelines of diffusers load."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Storage, Store
from cluster.storage.settings import DEFAULT_STORAGE
from fewshot.digests import check_digest
from ray_jobs.errors import JobError
from ray_jobs.output.layout import CARD, FILES, from_json
from ray_jobs.output.runs import open_output

ADAPTERS = "adapters"
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """The adapters of a class.

    Attributes:
        file: path.
        label: of the class.
        prompt: that they were trained with.
    """

    file: str
    label: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterExport:
    """What was written.

    Attributes:
        folder: that the files are in.
        adapters: of each class; of one that was trained in several ways, all of them.
    """

    folder: str
    adapters: tuple[AdapterFile, ...]


def export_adapters(output: str, folder: str, storage: Storage = DEFAULT_STORAGE) -> AdapterExport:
    """Write the adapters of every class of an output, those trained for calibration left out.

    Args:
        output: any fsspec URL.
        folder: local path to write to; it is made if missing, and files of the same names are replaced.
        storage: how S3 is reached.

    Raises:
        JobError: there are no adapters, some are damaged, or the folder cannot be written to.
        StorageError: storage does not respond.
    """
    if "://" in folder:
        raise JobError([f"{folder} is a URL; give a folder of this machine, for diffusers reads local files"])
    store = open_output(output, storage)
    cards = {path: card for path, card in _cards(store) if not card.get("held_out")}
    if not cards:
        there = "`fewshot classify` trains them for method = 'tif' under [escalate]"
        raise JobError([f"{store.root} has no adapters; {there}"])
    place = _made(Path(folder))
    written = (_export(store, path, card, place) for path, card in cards.items())
    return AdapterExport(folder=folder, adapters=tuple(written))


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError([f"{folder} cannot be made: {error.strerror}; give another folder"]) from error
    return folder


def _cards(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield folder and card of each complete adapter."""
    for path in sorted(store.list(ADAPTERS)):
        if posixpath.basename(path) == CARD:
            try:
                card = from_json(store.get(path))
                card["class"], card["prompt"], card["settings"], card[FILES]
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise _damaged(store, path, error) from error
            yield posixpath.dirname(path), card


def _export(store: Store, place: str, card: Mapping[str, Any], folder: Path) -> AdapterFile:
    from fewshot.diffusion.lora import ADAPTER_FILES, load_adapters, pipeline_file

    about = {"label": str(card["class"]), "prompt": str(card["prompt"])}
    try:
        files = {name: store.get(f"{place}/{name}") for name in ADAPTER_FILES}
        for name, content in files.items():
            check_digest(content, card[FILES][name])
        scales = {f"{part}_scale": float(card["settings"][f"{part}_scale"]) for part in ("unet", "text")}
        content = pipeline_file(load_adapters([files]), 0, **scales, about=about)
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise _damaged(store, place, error) from error
    path = folder / f"{_name(about['label'])}-{posixpath.basename(place)[:8]}.safetensors"
    path.write_bytes(content)
    return AdapterFile(file=str(path), **about)


def _name(label: str) -> str:
    """Return a label as part of the name of a file on any system."""
    return re.sub(r"\W+", "-", label).strip("-")[:LONGEST_NAME] or "class"


def _damaged(store: Store, path: str, error: Exception) -> JobError:
    return JobError([f"the adapters in {store.url(path)} are damaged: {error}. Run the job again to train them anew"])
