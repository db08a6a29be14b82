"""One builder of test archives for each form; `tests/contract/test_sources.py` holds every form to the contract."""

from __future__ import annotations

import csv
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.cluster.records.archives import tar_bytes, write_folder, zip_bytes


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Writes archives of one form. Equal contents give equal bytes.

    Attributes:
        write: writes a container with these contents in their order, and returns its path. For the form whose entries
            are files: writes them below a new folder of this path.
        write_broken: the same for entries that cannot be read. Returns a pattern of the reason for each key.
        suffix: of the container.
        has_names: whether keys are names of files, so that hidden ones and sidecars are skipped.
        place: what opens a folder of containers as an archive of the form, below it; "" is the folder.
        marks_its_end: whether a container that is cut off can be told from one with fewer entries.
        has_contents: whether the containers hold the images; otherwise they name other files, and what is known of
            those elsewhere than on a local disk is no part of a shard's name.
    """

    write: Callable[[Path, Mapping[str, bytes]], Path]
    write_broken: Callable[[Path], dict[str, str]]
    suffix: str = ""
    has_names: bool = True
    place: str = ""
    marks_its_end: bool = True
    has_contents: bool = True


def _write_broken_folder(path: Path) -> dict[str, str]:
    path.mkdir()
    os.mkfifo(path / "pipe.jpg")
    (path / "link.jpg").symlink_to("nothing")
    (path / "outside.jpg").symlink_to("/etc/hostname")
    return {"pipe.jpg": "not a regular file", "link.jpg": "broken symbolic link", "outside.jpg": "out of the archive"}


def _write_tar(path: Path, contents: Mapping[str, bytes]) -> Path:
    path.write_bytes(tar_bytes(contents.items()))
    return path


def _write_broken_tar(path: Path) -> dict[str, str]:
    link, device = tarfile.TarInfo("link.jpg"), tarfile.TarInfo("device.jpg")
    link.type, device.type = tarfile.SYMTYPE, tarfile.CHRTYPE
    path.write_bytes(tar_bytes([link, ("../outside.jpg", b"x"), device]))
    return {"link.jpg": "a link", "../outside.jpg": "outside the archive", "device.jpg": "not a regular file"}


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> Path:
    path.write_bytes(zip_bytes(contents.items()))
    return path


def _write_broken_zip(path: Path) -> dict[str, str]:
    link = zipfile.ZipInfo("link.jpg")
    link.create_system, link.external_attr = 3, stat.S_IFLNK << 16
    data = zip_bytes([(link, b"a.jpg"), ("../outside.jpg", b"x"), ("damaged.jpg", b"content")])
    path.write_bytes(data.replace(b"content", b"contents"[1:]))
    return {"link.jpg": "a link", "../outside.jpg": "outside the archive", "damaged.jpg": "checksum"}


def _write_table(path: Path, contents: Mapping[str, bytes]) -> Path:
    columns = {"key": pa.array(list(contents), pa.string()), "image": pa.array(list(contents.values()), pa.binary())}
    pq.write_table(pa.table(columns), path)
    return path


def _write_broken_table(path: Path) -> dict[str, str]:
    pq.write_table(pa.table({"key": ["null.jpg"], "image": pa.array([None], pa.binary())}), path)
    return {"null.jpg": "no image: null"}


def _write_list(path: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the files into a hidden folder beside the list, so that no key is a path."""
    files = path.with_name(f".files of {path.stem}")
    names = {key: f"{number:04d}" for number, key in enumerate(contents)}
    write_folder(files, {names[key]: data for key, data in contents.items()})
    rows = [{"key": key, "path": f"{files.name}/{name}"} for key, name in names.items()]
    if path.suffix == ".txt":
        write_folder(path.parent, contents)
        path.write_text("".join(f"{key}\n" for key in contents))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["key", "path"], delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _write_broken_list(path: Path) -> dict[str, str]:
    path.write_text("key,path\nmissing,missing.jpg\nelsewhere,http://127.0.0.1:1/a.jpg\nnothing,\nfolder,.\n")
    return {
        "missing": "not found",
        "elsewhere": "http URLs are not followed",
        "nothing": "empty path",
        "folder": "a folder, not a file",
    }


BUILDERS = {
    "glob": Builder(write=write_folder, write_broken=_write_broken_folder, place="**"),
    "list": Builder(
        write=_write_list,
        write_broken=_write_broken_list,
        suffix=".csv",
        has_names=False,
        place="*.csv",
        marks_its_end=False,
        has_contents=False,
    ),
    "folder": Builder(write=write_folder, write_broken=_write_broken_folder),
    "tar": Builder(write=_write_tar, write_broken=_write_broken_tar, suffix=".tar"),
    "zip": Builder(write=_write_zip, write_broken=_write_broken_zip, suffix=".zip"),
    "parquet": Builder(write=_write_table, write_broken=_write_broken_table, suffix=".parquet", has_names=False),
}
"""Keyed by the names in `cluster.records.FORMS`."""
