"""The Python files of a checkout, or of a revision of it, and their syntax trees."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PACKAGES = ("cluster", "fewshot", "ray_jobs")

Sources = Mapping[str, str]
"""Python source by path, relative to the root of the tree, with forward slashes."""


@cache
def parse(path: str, source: str) -> ast.Module:
    """Return the syntax tree of a file, which is shared: do not change it.

    Raises:
        SyntaxError: the source is not Python; its `filename` is the path.
    """
    return ast.parse(source, filename=path)


@cache
def nodes(path: str, source: str) -> tuple[ast.AST, ...]:
    """Return every node of the syntax tree of a file; see `parse`."""
    return tuple(ast.walk(parse(path, source)))


def read_folder(root: Path) -> dict[str, str]:
    """Read the Python files of the packages from a checkout.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    if not paths:
        raise FileNotFoundError(f"no Python files of {', '.join(PACKAGES)} in {root}; give the root of a checkout")
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def read_revision(root: Path, revision: str) -> dict[str, str]:
    """Read the Python files of the packages as they were at a revision; the checkout stays as it is.

    Args:
        root: the root of a checkout of the repository.
        revision: anything that git resolves to a commit.

    Raises:
        LookupError: git, the repository or the revision is missing.
    """
    git = shutil.which("git")
    if git is None:
        raise LookupError("git is not installed; install it to read another revision")
    command = [git, "-C", str(root), "archive", "--format=tar", "--end-of-options", revision]
    archived = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    if archived.returncode:
        raise LookupError(f"cannot read revision {revision!r} of {root}: {archived.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        return {member.name: _text(archive, member) for member in archive if _is_source(member)}


def is_init(path: str) -> bool:
    """Whether a path is that of a package's `__init__`."""
    return path.endswith("/__init__.py")


def _is_source(member: tarfile.TarInfo) -> bool:
    return member.isfile() and member.name.endswith(".py") and member.name.split("/")[0] in PACKAGES


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member)
    return file.read().decode("utf-8") if file else ""
