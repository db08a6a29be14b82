"""Build the demo archive in `fewshot/demo`: animals and foods as emoji in three drawn styles.

    python tools/build_demo_archive.py [--packages FOLDER]

It needs `npm`, which fetches 150 MB of packages, and writes

* one zip a style: 64-pixel WebP pictures, composited on white, named after their code points;
* `classes.csv`: code, label, name, category of each class, in the order of the Unicode chart.

It takes every emoji of the two categories that all three styles have; none is chosen by hand. The versions of the
packages and their checksums are pinned, so that with the Pillow of `requirements.lock` the files are byte for byte the
committed ones; another version of the WebP encoder changes bytes, not pictures. Licences and attribution are in
`fewshot/demo/LICENSES.md`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

DEMO = Path(__file__).resolve().parent.parent / "fewshot" / "demo"
CATEGORIES = ("Animals & Nature", "Food & Drink")
SIDE = 64
QUALITY = 85

logger = logging.getLogger("build_demo_archive")


@dataclass(frozen=True, slots=True)
class Package:
    """One drawn style, as an npm package publishes it.

    Attributes:
        style: name of the style and of its zip.
        spec: name@version, the argument of `npm pack`.
        sha256: of the tarball.
        picture: path of a picture in the tarball, with `{code}` for its code points.
    """

    style: str
    spec: str
    sha256: str
    picture: str

    @property
    def tarball(self) -> str:
        """The file name of the tarball that npm writes."""
        return re.sub("[/@]", "-", self.spec.removeprefix("@")) + ".tgz"


PACKAGES = (
    Package(
        style="noto",
        spec="emoji-datasource-google@16.0.0",
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        picture="package/img/google/64/{code}.png",
    ),
    Package(
        style="twemoji",
        spec="emoji-datasource-twitter@16.0.0",
        sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        picture="package/img/twitter/64/{code}.png",
    ),
    Package(
        style="fluent",
        spec="@lobehub/fluent-emoji-3d@1.1.0",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        picture="package/assets/{code}.webp",
    ),
)
CHART = "package/emoji.json"
"""The file with names, categories and order of all emoji, in the first two packages."""


def main() -> None:
    """Fetch the packages, and write the archive of the emoji that all styles have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder to keep tarballs in and to reuse them from")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        tarballs = {package: fetch(package, options.packages or Path(scratch)) for package in PACKAGES}
        chart = json.loads(read_members(tarballs[PACKAGES[0]], {CHART})[CHART])
        entries = [entry for entry in chart if entry["category"] in CATEGORIES]
        styles = {package.style: pictures(package, tarballs[package], entries) for package in PACKAGES}
    codes = set.intersection(*map(set, styles.values()))
    write_classes([entry for entry in entries if code_of(entry) in codes])
    for style, drawings in styles.items():
        write_zip(DEMO / f"{style}.zip", {f"{code}.webp": drawings[code] for code in sorted(codes)})


def fetch(package: Package, folder: Path) -> Path:
    """Return the package's tarball, downloaded if it is missing, after checking its sum."""
    path = folder / package.tarball
    if not path.exists():
        npm = shutil.which("npm") or "npm"
        subprocess.run([npm, "pack", "--silent", "--pack-destination", str(folder), package.spec], check=True)  # noqa: S603
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{path.name}: expected sha256 {package.sha256}, got {found}; delete the file and run again")
    return path


def read_members(tarball: Path, names: set[str]) -> dict[str, bytes]:
    """Return the contents of the named members that exist; nothing is extracted to disk."""
    with tarfile.open(tarball) as archive:
        found = ((member.name, archive.extractfile(member)) for member in archive if member.name in names)
        return {name: content.read() for name, content in found if content is not None}


def code_of(entry: Mapping[str, Any]) -> str:
    """Return the code points of an emoji in lower-case hexadecimal, joined by hyphens: "1f34e"."""
    return str(entry["unified"]).lower()


def pictures(package: Package, tarball: Path, entries: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return the WebP pictures of the entries that the style has, by code."""
    members = {package.picture.format(code=code_of(entry)): code_of(entry) for entry in entries}
    return {members[name]: as_webp(data) for name, data in read_members(tarball, set(members)).items()}


def as_webp(data: bytes) -> bytes:
    """Composite a picture on white at the common size."""
    drawing = Image.open(io.BytesIO(data)).convert("RGBA")
    if drawing.size != (SIDE, SIDE):
        drawing = drawing.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    paper = Image.new("RGBA", drawing.size, "white")
    file = io.BytesIO()
    Image.alpha_composite(paper, drawing).convert("RGB").save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def write_classes(entries: Iterable[Mapping[str, Any]]) -> None:
    """Write classes.csv: the label is the Unicode name in lower case, with underscores."""
    with (DEMO / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["code", "label", "name", "category"])
        for entry in sorted(entries, key=lambda entry: int(entry["sort_order"])):
            name = re.sub("[^a-z0-9]+", " ", str(entry["name"]).lower())
            table.writerow([code_of(entry), name.replace(" ", "_"), name, entry["subcategory"]])


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Store files without compression (WebP has its own) and without anything that depends on time or machine."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    logger.info("%s: %d pictures, %d bytes", path.name, len(files), path.stat().st_size)


if __name__ == "__main__":
    main()
