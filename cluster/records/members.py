"""One policy for the members of tar and zip files.

| member | becomes |
|---|---|
| a directory | nothing |
| hidden, or a sidecar by its name; of another component than the one named | counted as skipped |
| an empty name, or one that points outside the archive, hidden or not | an error record |
| a symbolic link, a device, a pipe, a sparse file | an error record |
| a hard link | the content of the member before it that it names, or an error record |
| an archive or a compressed file by its name | an error record; archives in archives are not opened |
| larger than the limit | an error record; its content is not held in memory |
| a name that occurs twice | a record each time |
| anything else | a record with its content, or with the reason why it cannot be read |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cluster.records.base import Skipped
from cluster.records.names import is_entry, is_packed, printable
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
    if member.points_outside or is_entry(member.name.removeprefix("./"), component):
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
    return too_large(member.size, max_bytes) if member.size > max_bytes else None
