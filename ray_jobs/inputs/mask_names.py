"""Images that may be masks of other images by their names. They are images like all others until a user decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.records import Shard
from cluster.records.folder import FolderSlice
from cluster.records.names import annotated_stem, component_of, may_be_mask_of, printable, stem_of

MAX_COMPONENTS = 8
"""Extensions that a message names; with more of them, what follows the first dot of a name is no extension."""


@dataclass(slots=True)
class MaskFinder:
    """Finds images that may be masks of others, as a folder is listed in the order of its paths.

    A mask lies in the folder of its image, and is called like it, with "_mask" or another such word behind the name
    (x_mask.png beside x.jpg), or is a PNG or TIFF of the same name as a JPEG or WebP (x.png beside x.jpg). Only the
    stems with which the last path begins are kept: all paths that begin with a stem follow each other.

    Attributes:
        count: masks so far.
        first: the first mask and its image.
    """

    count: int = 0
    first: tuple[str, str] | None = None
    _stems: list[tuple[str, str]] = field(default_factory=list)
    _components: set[str] = field(default_factory=set)
    _of_masks: set[str] = field(default_factory=set)

    def visit(self, path: str) -> None:
        """Take the next path."""
        while self._stems and not path.startswith(self._stems[-1][0]):
            self._note(self._components, self._stems.pop()[1])
        stem = stem_of(path)
        for place, (known, image) in enumerate(self._stems):
            if known == annotated_stem(path) or (known == stem and may_be_mask_of(path, image)):
                self._add(path, image)
                break
            if known == stem and may_be_mask_of(image, path):
                self._stems[place] = (stem, path)
                self._add(image, path)
                break
        else:
            self._stems.append((stem, path))

    def visit_shard(self, shard: Shard) -> None:
        """Take the images of a shard, if it is one of a folder."""
        if isinstance(shard.payload, FolderSlice):
            for entry in shard.payload.entries:
                if entry.problem is None:
                    self.visit(entry.path)

    @property
    def component(self) -> str | None:
        """The value of `component` that names all images but the masks; None if there is none."""
        components = self._components | {component_of(path) for _, path in self._stems}
        if len(components) > MAX_COMPONENTS or components & self._of_masks:
            return None
        return ";".join(sorted(components))

    def _add(self, mask: str, image: str) -> None:
        self.count += 1
        self.first = self.first or (mask, image)
        self._note(self._of_masks, mask)

    @staticmethod
    def _note(components: set[str], path: str) -> None:
        if len(components) <= MAX_COMPONENTS:
            components.add(component_of(path))


def notice_of_archive_masks(finder: MaskFinder) -> str | None:
    """Return a sentence about the masks in an archive, and how to leave them out; None if there are none."""
    if finder.first is None:
        return None
    others = "rename them to x.mask.png, as masks of x.jpg or x.png, or list the images in a .txt file"
    component = finder.component
    way = others if component is None else f'set archive.component = "{component}", or {others}'
    return f"{_found(finder, 'archive image')}. They are labelled like all others. If they are masks, {way}."


def notice_of_example_masks(paths: Iterable[str]) -> str | None:
    """Return a sentence about the masks among examples in folders; None if there are none.

    Args:
        paths: of the examples, in any order.
    """
    finder = MaskFinder()
    for path in sorted(paths, key=lambda path: path.encode("utf-8", "surrogatepass")):
        finder.visit(path)
    if finder.first is None:
        return None
    return (
        f"{_found(finder, 'example')}. They are examples like all others. If they are masks, move them out of the "
        "folders of the classes, or rename them to x.mask.png."
    )


def _found(finder: MaskFinder, noun: str) -> str:
    assert finder.first is not None
    mask, image = map(printable, finder.first)
    what = f"{noun} is called like a mask" if finder.count == 1 else f"{noun}s are called like masks"
    return f"{finder.count:,} {what} of another one, such as {mask} of {image}"
