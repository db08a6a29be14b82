"""One policy for the members of tar and zip files.

| member | becomes |
|---|---|
| a directory | nothing |
| hidden, or a sidecar by its name; of another component than the one named | counted as skipped |
| an empty name, or one that points outside the archive, hidden or not | an error record |
| a symbolic link, a device, a pipe, a sparse file | an error record |
| a hard link | the content of the member before it that it names, or an error record |
| a Parquet table, unless it is called `DESCRIBES_IMAGES` | an error record: it may hold images |
| a second image of a sample that may be a mask, see `Samples` | an error record, unless a component is named |
| an archive or a compressed file by its name | an error record; archives in archives are not opened |
| larger than the limit | an error record; its content is not held in memory |
| a name that occurs twice | a record each time |
| anything else | a record with its content, or with the reason why it cannot be read |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.records.base import Skipped
from cluster.records.names import (
    DESCRIBES_IMAGES,
    component_of,
    is_entry,
    is_hidden,
    is_packed,
    is_table,
    may_be_mask,
    printable,
    sample_of,
)
from cluster.records.reading import too_large


class MemberType(Enum):
    """What a member is, according to its header."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    HARD_LINK = "hard link"
    SPECIAL = "special"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a container, as described there.

    Attributes:
        name: its path in the container, with "/".
        size: bytes of its content, unpacked.
        type: what it is.
    """

    name: str
    size: int
    type: MemberType = MemberType.FILE

    @property
    def key(self) -> str:
        """The key of its record."""
        return printable(self.name.removeprefix("./"))

    @property
    def points_outside(self) -> bool:
        """Whether unpacking it under its name would write outside the folder it is unpacked in."""
        return self.name.startswith("/") or ".." in self.name.split("/")


def is_record(member: Member, skipped: Skipped, component: str | None = None) -> bool:
    """Whether a member becomes a record. Counts it as skipped if it is no image by its name, see `is_entry`."""
    if member.type is MemberType.DIRECTORY:
        return False
    name = member.name.removeprefix("./")
    if member.points_outside or is_entry(name, component) or (component is None and _may_hold_images(name)):
        return True
    skipped.add(member.key)
    return False


def refusal(member: Member, max_bytes: int) -> str | None:
    """Return the reason why a member that becomes a record is not read; None if it is read."""
    if not member.key:
        return "an empty name"
    if member.points_outside:
        return "the name points outside the archive"
    if member.type is MemberType.LINK:
        return "a link, not a file"
    if member.type not in (MemberType.FILE, MemberType.HARD_LINK):
        return "not a regular file"
    if is_packed(member.name):
        return "an archive or a compressed file in an archive, which is not opened; unpack the outer one first"
    if _may_hold_images(member.name):
        return "a Parquet table in an archive, which is not opened; unpack the archive first"
    return too_large(member.size, max_bytes) if member.size > max_bytes else None


def _may_hold_images(name: str) -> bool:
    """Whether a member is a table that does not only describe the images beside it."""
    return is_table(name) and not is_hidden(name) and not name.lower().endswith(DESCRIBES_IMAGES)


@dataclass(slots=True)
class Samples:
    """The samples of members in their order, as WebDataset has them: members that are equal up to the first dot.

    Attributes:
        component: which members count as images; None if none is named.
    """

    component: str | None = None
    _first: str = ""

    def second_image(self, name: str) -> str | None:
        """Return why a member is not labelled: it may be the mask of the image before it, in the same sample."""
        first = self._first
        if sample_of(name) != sample_of(first):
            self._first = name
        elif self.component is None and may_be_mask(name, first):
            one, both = component_of(first), f"{component_of(first)};{component_of(name)}"
            return (
                f"a second image of the sample of {printable(first)}; name the one that counts by"
                f' component = "{printable(one)}", or both by "{printable(both)}"'
            )
        return None
