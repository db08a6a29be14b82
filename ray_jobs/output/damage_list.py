"""Damaged objects of a run: found by `fewshot verify`, noted beside the run, removed and made anew when it runs again.

`classify` lists the folder of a finished run and does not read its objects, so it finds damage by this note.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from cluster import Store
from ray_jobs.output.stored_objects import find_problem, is_object
from ray_jobs.results.json_format import FormatError, JsonDocument

DAMAGE_LIST = "damaged.json"
"""In the folder of a run."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageList(JsonDocument):
    """Objects to make anew.

    Attributes:
        objects: paths in the output.
    """

    format_version: ClassVar[int] = 1
    objects: tuple[str, ...]


def first_and_count(store: Store, objects: Sequence[str]) -> str:
    """Return the URL of the first object and the number of the others, such as "s3://b/a.npy and 3 more"."""
    others = f" and {len(objects) - 1} more" if len(objects) > 1 else ""
    return f"{store.url(objects[0])}{others}"


def note_damage(store: Store, run: str, objects: Sequence[str]) -> None:
    """Write the note of damaged objects beside a run; if there are none, remove an earlier note.

    Args:
        store: the output.
        run: the run's folder.
        objects: paths in the output.
    """
    path = f"{run}/{DAMAGE_LIST}"
    if objects:
        store.put(path, DamageList(objects=tuple(sorted(objects))).to_bytes())
    elif store.exists(path):
        store.delete(path)


def remove_damaged(store: Store, run: str) -> list[str]:
    """Remove the noted objects that are still damaged, then the note.

    Args:
        store: the output.
        run: the run's folder.

    Returns:
        what was removed or missing, as paths in the output.
    """
    path, damaged = f"{run}/{DAMAGE_LIST}", list[str]()
    with suppress(FileNotFoundError):
        for noted in _read(store, path).objects:
            if is_object(noted, run) and find_problem(store, noted) is not None:
                store.delete(noted)
                damaged.append(noted)
        store.delete(path)
    return damaged


def _read(store: Store, path: str) -> DamageList:
    """Read a note; a damaged note counts as empty, and `fewshot verify` must be run again."""
    try:
        return DamageList.from_json(store.get(path), where=store.url(path))
    except FormatError as error:
        logger.warning("note of damage not read, verify the run again error=%s", error)
        return DamageList(objects=())
