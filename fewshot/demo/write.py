"""Write the demo into a folder: an archive, a table of examples, ground-truth labels and splits."""

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
    """Paths of the files of `write_demo`.

    Attributes:
        archive: folder of 285 WebP files named after code points, with six broken files in `broken/`.
        examples: csv of image,label,name; two rows for each class, with paths relative to the folder of the csv.
        ground_truth: csv of image,label; one row for each readable file, with paths relative to `archive`.
        splits: splits.json for the evaluation of methods: examples to learn from, the archive to test on.
    """

    archive: Path
    examples: Path
    ground_truth: Path
    splits: Path


def write_demo(folder: Path) -> DemoPaths:
    """Write the demo into a folder, which is created if it does not exist.

    Files with the right content are not written again, so that a second run leaves the archive unchanged.

    Args:
        folder: the folder for `archive/`, `examples/`, `examples.csv`, `ground_truth.csv` and `splits.json`.
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
    """Return the content of splits.json: paths with the index of their class."""
    index = {row["label"]: i for i, row in enumerate(classes)}
    content = {
        "classes": [row["name"] for row in classes],
        "train": [[image, index[label]] for image, label, _ in examples],
        "test": [[f"archive/{row['code']}.webp", index[row["label"]]] for row in classes],
    }
    return json.dumps(content, ensure_ascii=False).encode()


def demo_classes() -> list[dict[str, str]]:
    """Return the rows of classes.csv: code, label, name, category."""
    text = resources.files("fewshot.demo").joinpath("classes.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def demo_pictures(style: str) -> Mapping[str, bytes]:
    """Return the WebP files of a style by file name."""
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
