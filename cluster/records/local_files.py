"""Open local files as they were listed: a symbolic link that was put in the place of a file or folder is not followed.

A path is opened component by component, each relative to the folder before it, so that nothing can be swapped between
a check and its use.
"""

from __future__ import annotations

import errno
import os
from typing import Literal

from cluster.errors import ChangedError

Link = Literal["none", "inside", "out"]
"""Where symbolic links on the path of a listed file lead: there is none; to a place in the archive; anywhere."""

FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""A pipe or a device is opened without waiting for it."""
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def open_listed(root: str, path: str, link: Link) -> int:
    """Open a file of a listing and return its descriptor.

    Args:
        root: the listed folder.
        path: relative to it.
        link: what the listing found; only such links are followed.

    Raises:
        ChangedError: a link is where none was, or leads elsewhere.
        OSError: it cannot be opened.
    """
    if link == "out":
        return os.open(f"{root}/{path}", FILE_FLAGS)
    if link == "inside":
        root, path = _resolved(root, path)
    try:
        return _open_beneath(root, path)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        os.stat(f"{root}/{path}")  # noqa: PTH116 (a path may hold any bytes); raises the reason if there is another one
        raise ChangedError("a symbolic link in the place of a file or folder") from None


def is_within(path: str, folder: str) -> bool:
    """Whether a resolved path is a resolved folder or lies below it."""
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _resolved(root: str, path: str) -> tuple[str, str]:
    root, target = os.path.realpath(root), os.path.realpath(f"{root}/{path}", strict=True)
    if not is_within(target, root):
        raise ChangedError("a symbolic link that leads elsewhere now")
    return root, os.path.relpath(target, root)


def _open_beneath(root: str, path: str) -> int:
    *parents, name = path.split("/")
    folder = os.open(root, _FOLDER_FLAGS)
    try:
        for parent in parents:
            below = os.open(parent, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, FILE_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
