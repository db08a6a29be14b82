"""Lists of images to look at, which other commands leave in the output: suggestions, results of searches, audits.

A list is a JSON object with "images", each with "image", its key; audits have "draw" and a "probability" for each
image. All else is optional, so that commands may add to their lists.

suggestions/<name>.json                a suggestion, or the result of a search
audits/<draw>/sample-<images>.json     a sample of an audit; a larger one continues a smaller one
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.output.layout import AUDITS, SUGGESTIONS
from ray_jobs.report.markup import plural

MAX_BYTES = 64 << 20
"""Of a list that is read."""
ListKind = Literal["suggestion", "search", "audit"]


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image of a list.

    Attributes:
        image: key in the archive.
        why: it is in the list, for the reviewer; "" where the list does not say.
        probability: of an audit: with which it was drawn, in (0, 1]; None otherwise.
    """

    image: str
    why: str = ""
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class ShownList:
    """A list.

    Attributes:
        name: of the list.
        kind: what it is.
        query: what was searched for; None otherwise.
        images: in the order in which they are shown.
        archive: identity of the archive that they are of; None where the list does not say.
    """

    name: str
    kind: ListKind
    query: str | None
    images: tuple[ShownImage, ...]
    archive: str | None = None

    @property
    def title(self) -> str:
        """Heading of its screens."""
        if self.kind == "audit":
            return f"Audit {self.name}"
        return f"Search: {self.query}" if self.query else f"Suggestion of {plural(len(self.images), 'image')}"


def list_paths(store: Store) -> dict[str, str]:
    """Return the lists of an output: name -> path. Of an audit, whose name is that of the draw, the largest sample.

    Raises:
        StorageError: storage does not respond.
    """
    found = {path[len(SUGGESTIONS) + 1 : -5]: path for path in store.list(SUGGESTIONS) if path.endswith(".json")}
    sizes: dict[str, int] = {}
    for path in store.list(AUDITS):
        if match := re.fullmatch(rf"{AUDITS}/(.+)/sample-(\d+)\.json", path):
            draw, images = match[1], int(match[2])
            if images > sizes.get(draw, -1):
                sizes[draw], found[draw] = images, path
    return found


def read_list(store: Store, name: str, path: str) -> ShownList:
    """Read a list.

    Args:
        store: the output.
        name: of the list.
        path: of its object, from `list_paths`.

    Raises:
        JobError: it is too large, or not a list of images.
        FileNotFoundError: there is none.
    """
    if store.size(path) > MAX_BYTES:
        raise JobError([f"{store.url(path)} has more than {MAX_BYTES >> 20} MiB"])
    is_audit = posixpath.dirname(path).startswith(AUDITS)
    try:
        content = json.loads(store.get(path))
        images = tuple(_images(content["images"], is_audit=is_audit))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        problem = f"{store.url(path)} is no list of images ({type(error).__name__}: {error})"
        raise JobError([f'{problem}; expected {{"images": [{{"image": KEY}}, …]}}']) from error
    if is_audit:
        return ShownList(str(content.get("draw") or name), "audit", None, images, _archive_of_draw(store, path))
    query = content.get("query")
    is_search = content.get("kind") == "search" or query is not None
    kind: ListKind = "search" if is_search else "suggestion"
    return ShownList(name, kind, None if query is None else str(query), images, _text(content.get("archive")))


def _archive_of_draw(store: Store, sample: str) -> str | None:
    """Return the archive that a draw is of, which lies beside its samples; None where nothing says so."""
    try:
        return _text(json.loads(store.get(f"{posixpath.dirname(sample)}/draw.json"))["archive"])
    except (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _images(rows: Any, *, is_audit: bool) -> Iterator[ShownImage]:
    for row in rows:
        if not isinstance(row, Mapping) or not isinstance(row["image"], str):
            raise ValueError("an image without its key")
        probability = float(row["probability"]) if is_audit else None
        if probability is not None and not 0 < probability <= 1:
            raise ValueError(f"expected a probability in (0, 1], got {probability}")
        yield ShownImage(row["image"], "" if is_audit else str(row.get("reason") or ""), probability)
