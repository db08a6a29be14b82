"""A list of images of an archive to look at: what `fewshot suggest` and `fewshot search` print and store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ray_jobs.results.json_format import JsonDocument, JsonObject, JsonValue

ListKind = Literal["suggestion", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage(JsonValue):
    """An image of the archive.

    Attributes:
        image: its key, as the predictions have it.
        source: the object that holds it; "" where it is an object itself.
        shard: fingerprint of its shard, which is in the names of its parts of features and predictions.
        row: position in the shard, from 0.
        reason: why it was suggested: "unseen region", "doubtful" or "rare class: NAME"; None in a search.
        similarity: cosine to the query, in [-1, 1]; None in suggestions.
        label: the most probable class, also where the label was withheld; None if there is no prediction.
        score: its calibrated probability, in [0, 1]; None where there is none.
    """

    image: str
    source: str
    shard: str
    row: int
    reason: str | None = None
    similarity: float | None = None
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList(JsonDocument):
    """A list of images, the most useful or most similar first.

    Attributes:
        kind: "suggestion" or "search".
        run: the run whose features were used, a path in the output.
        archive: identity of the archive, as the ledger of labels has it.
        query: the text, or the path or URL of the image that was searched for; None for suggestions.
        requested: number of images that were requested.
        considered: number of images of the archive with features; for suggestions, those of the sample.
        labelled: of suggestions: number of images with labels, which count as covered; None for searches.
        notices: what a user should know, a sentence each.
        images: the images.
    """

    format_version: ClassVar[int] = 1
    kind: ListKind
    run: str
    archive: str
    query: str | None = None
    requested: int
    considered: int
    labelled: int | None = None
    notices: tuple[str, ...] = ()
    images: tuple[ListedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredList:
    """A list with its place.

    Attributes:
        content: the list.
        stored: URL of the object.
        table: path of the CSV file; None if none was written.
    """

    content: ImageList
    stored: str
    table: str | None = None

    def to_json(self) -> JsonObject:
        """Return what is printed: the list, and where it lies."""
        return self.content.to_json() | {"stored": self.stored, "table": self.table}
