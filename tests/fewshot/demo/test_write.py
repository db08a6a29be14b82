"""The files of the demo: complete, consistent with each other, and identical every time."""

import csv
import io
from pathlib import Path

import pytest

from fewshot.data import label_space, parse_examples, parse_splits
from fewshot.demo import EXAMPLE_STYLES, write_demo
from fewshot.errors import UnreadableImageError
from fewshot.images import decode


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_examples_can_be_parsed(demo):
    examples = parse_examples(demo.examples.read_bytes(), format="csv", name="examples.csv")
    space = label_space(examples)
    assert len(space) == 285
    assert len(examples) == 285 * len(EXAMPLE_STYLES)
    assert dict(zip(space.names, space.prompt_names, strict=True))["red_apple"] == "red apple"


def test_every_listed_picture_has_64_pixels_a_side(demo):
    for table, root in ((demo.examples, demo.examples.parent), (demo.ground_truth, demo.archive)):
        images = [root / row["image"] for row in csv.DictReader(io.StringIO(table.read_text()))]
        assert {decode(image.read_bytes()).size for image in images} == {(64, 64)}


def test_ground_truth_covers_each_class_and_readable_file(demo):
    rows = list(csv.DictReader(io.StringIO(demo.ground_truth.read_text())))
    examples = parse_examples(demo.examples.read_bytes(), format="csv", name="examples.csv")
    assert sorted(row["label"] for row in rows) == sorted({example.label for example in examples})
    assert {row["image"] for row in rows} == {path.name for path in demo.archive.glob("*.webp")}


def test_no_broken_file_can_be_decoded(demo):
    broken = sorted((demo.archive / "broken").iterdir())
    assert len(broken) == 6
    for path in broken:
        with pytest.raises(UnreadableImageError):
            decode(path.read_bytes())


def test_the_decompression_bomb_is_small_on_disk(demo):
    assert (demo.archive / "broken" / "bomb.png").stat().st_size < 200


def test_the_demo_is_identical_every_time(demo, tmp_path):
    write_demo(tmp_path)
    assert contents(tmp_path) == contents(demo.archive.parent)


def test_a_second_run_rewrites_only_changed_files(tmp_path):
    demo = write_demo(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.webp")}
    harmed = demo.archive / "1f34e.webp"
    good = harmed.read_bytes()
    harmed.write_bytes(b"")
    write_demo(tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.webp")}
    assert {path for path in before if before[path] != after[path]} == {harmed}
    assert harmed.read_bytes() == good


def test_shipped_pictures_are_small_and_attributed():
    folder = Path(__file__).parents[3] / "fewshot" / "demo"
    licences = (folder / "LICENSES.md").read_text(encoding="utf-8")
    packed = sorted(folder.glob("*.zip"))
    assert sum(path.stat().st_size for path in packed) <= 1_000_000
    assert [path.name for path in packed if path.name not in licences] == []


def test_the_splits_agree_with_the_tables(demo):
    splits = parse_splits(demo.splits.read_bytes())
    assert len(splits.train) == 570
    rows = {row["image"]: row["label"] for row in csv.DictReader(io.StringIO(demo.ground_truth.read_text()))}
    names = {f"archive/{image}": label.replace("_", " ") for image, label in rows.items()}
    assert {path: splits.label_space.prompt_names[label] for path, label in splits.test} == names
