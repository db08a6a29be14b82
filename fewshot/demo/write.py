"""Lay the demo out in a folder as its users would have it: an archive, a table of examples, and the truth."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fewshot.demo.broken import broken_files

EXAMPLE_STYLES = ("noto", "twemoji")
ARCHIVE_STYLE = "fluent"
STYLES = (*EXAMPLE_STYLES, ARCHIVE_STYLE)


@dataclass(frozen=True, slots=True)
class DemoPaths:
    """What `write_demo` wrote.

    Attributes:
        archive: folder of 285 WebP files named after code points, and of six broken files in `broken/`.
        examples: csv of image,label,name; two rows a class, paths relative to the folder of the csv.
        ground_truth: csv of image,label; one row for each readable file, paths relative to `archive`.
        splits: the same as a splits.json, to evaluate methods with: examples to learn from, the archive to test on.
    """

    archive: Path
    examples: Path
    ground_truth: Path
    splits: Path


def write_demo(folder: Path) -> DemoPaths:
    """Write the demo below a folder, which is made if needed.

    Files that have the right content already are left alone: a second run finds an archive that has not changed.

    Args:
        folder: where `archive/`, `examples/`, `examples.csv`, `ground_truth.csv` and `splits.json` go.
    """
    paths = DemoPaths(folder / "archive", folder / "examples.csv", folder / "ground_truth.csv", folder / "splits.json")
    classes = demo_classes()
    examples = []
    for style in EXAMPLE_STYLES:
        drawn = demo_pictures(style)
        for row in classes:
            image = f"examples/{style}/{row['label']}.webp"
            _write(folder / image, drawn[f"{row['code']}.webp"])
            examples.append((image, row["label"], row["name"]))
    archive = demo_pictures(ARCHIVE_STYLE)
    broken = broken_files(archive[f"{classes[0]['code']}.webp"])
    for name, data in archive.items():
        _write(paths.archive / name, data)
    for name, data in broken.items():
        _write(paths.archive / "broken" / name, data)
    _write(paths.examples, _csv(("image", "label", "name"), examples))
    _write(paths.ground_truth, _csv(("image", "label"), ((f"{row['code']}.webp", row["label"]) for row in classes)))
    _write(paths.splits, _splits(classes, examples))
    return paths


def _splits(classes: list[dict[str, str]], examples: Iterable[tuple[str, str, str]]) -> bytes:
    """Paths with the index of their class."""
    index = {row["label"]: i for i, row in enumerate(classes)}
    content = {
        "classes": [row["name"] for row in classes],
        "train": [[image, index[label]] for image, label, _ in examples],
        "test": [[f"archive/{row['code']}.webp", index[row["label"]]] for row in classes],
    }
    return json.dumps(content, ensure_ascii=False).encode()


def demo_classes() -> list[dict[str, str]]:
    """Rows of classes.csv: code, label, name, category."""
    text = resources.files("fewshot.demo").joinpath("classes.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def demo_pictures(style: str) -> Mapping[str, bytes]:
    """File name to WebP of every picture of a style."""
    packed = resources.files("fewshot.demo").joinpath(f"{style}.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as pictures:
        return {name: pictures.read(name) for name in pictures.namelist()}


def _csv(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows((header, *rows))
    return file.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
