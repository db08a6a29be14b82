"""Masks are found by their names, in the folder of their images, and are images until the user decides."""

from __future__ import annotations

import pytest

from cluster.records import open_source
from ray_jobs.inputs.archive import list_archive
from ray_jobs.inputs.examples import read_labels
from ray_jobs.inputs.mask_names import MAX_COMPONENTS, MaskFinder, notice_of_archive_masks, notice_of_example_masks
from tests.cluster.records.archives import contents_of, write_folder


def found(*paths):
    """The number of masks, the first one, and its image."""
    finder = MaskFinder()
    for path in sorted(paths):
        finder.visit(path)
    return (finder.count, *(finder.first or ()))


def component(*paths):
    finder = MaskFinder()
    for path in sorted(paths):
        finder.visit(path)
    return finder.component


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ("x_mask.png", "x.jpg"),
        ("x_mask.png", "x.png"),
        ("a/x_Mask.PNG", "a/x.JPG"),
        ("a b/x_1_segmentation.png", "a b/x_1.jpg"),
        ("x_mask.gif", "x.jpg"),
        ("x.png", "x.jpg"),
        ("x.tif", "x.jpeg"),
        ("x.png", "x.webp"),
    ],
)
def test_a_mask_is_found_beside_its_image_whatever_lies_between(mask, image):
    folder = mask.rpartition("/")[0]
    others = [f"{folder}/{name}".lstrip("/") for name in ("a.jpg", "x0.jpg", "x-y.png", "xX_1.jpg", "y.png", "z.jpg")]
    assert found(mask, image, *others) == (1, mask, image)
    assert found(mask, *others) == found(image, *others) == (0,)


@pytest.mark.parametrize(
    "paths",
    [
        ("a/x_mask.png", "b/x.jpg"),
        ("masks/x.png", "images/x.jpg"),
        ("x.jpg", "x.heic"),
        ("x.jpg", "x.webp"),
        ("x.png", "x.tif"),
        ("x_masked.png", "x.jpg"),
        ("xmask.png", "x.jpg"),
        ("_mask.png", ".jpg", "a.jpg"),
        ("x_2.png", "x.jpg"),
        ("x.left.jpg", "x.png"),
    ],
)
def test_other_names_are_no_masks(paths):
    assert found(*paths) == (0,)


def test_each_mask_counts_once():
    assert found("x.jpg", "x.png", "x.tif", "x_mask.png", "x_depth.png", "y.jpg", "y_mask.png") == (5, "x.png", "x.jpg")


def test_only_stems_that_begin_the_last_path_are_kept():
    finder = MaskFinder()
    for number in range(1000, 2000):
        finder.visit(f"a/{number}.jpg")
        assert len(finder._stems) == 1


def test_a_component_that_names_the_images_is_offered():
    assert component("x.jpg", "x_mask.png", "y.jpeg", "y.png") == "jpeg;jpg"
    assert component("x.png", "x.webp", "y.webp") == "webp"
    assert component("x.jpg", "x_mask.png", "y.png") is None
    assert component("x.png", "x_mask.png") is None
    numbered = [f"x.{number}.jpg" for number in range(MAX_COMPONENTS)]
    assert component(*numbered[1:], "y.jpg", "y_mask.png") is not None
    assert component(*numbered, "y.jpg", "y_mask.png") is None


def test_the_notice_of_an_archive_names_the_ways_out(tmp_path):
    write_folder(tmp_path, dict.fromkeys(["x.jpg", "x_mask.png", "y.jpg", "y.png", "notes.txt"], b"x"))
    notice = list_archive(open_source(str(tmp_path), shard_records=1)).mask_notice
    assert notice == (
        "2 archive images are called like masks of another one, such as x_mask.png of x.jpg. They are labelled like"
        ' all others. If they are masks, set archive.component = "jpg", or rename them to x.mask.png, as masks of x.jpg'
        " or x.png, or list the images in a .txt file."
    )
    assert set(contents_of(tmp_path, component="jpg")) == {"x.jpg", "y.jpg"}
    (tmp_path / "x_mask.png").rename(tmp_path / "x.mask.png")
    (tmp_path / "y.png").rename(tmp_path / "y.mask.png")
    assert set(contents_of(tmp_path)) == {"x.jpg", "y.jpg"}
    assert list_archive(open_source(str(tmp_path))).mask_notice is None


def test_a_component_that_does_not_help_is_not_offered():
    finder = MaskFinder()
    finder.visit("x.png")
    finder.visit("x_mask.png")
    notice = notice_of_archive_masks(finder)
    assert notice is not None
    assert "1 archive image is called like a mask of another one" in notice
    assert "archive.component" not in notice


def test_masks_among_examples_are_a_notice(tmp_path):
    write_folder(tmp_path, dict.fromkeys(["cat/1.jpg", "cat/1_mask.png", "dog/1.jpg", "dog/2.jpg"], b"x"))
    (notice,) = read_labels(str(tmp_path)).notices
    assert notice.startswith("1 example is called like a mask of another one, such as cat/1_mask.png of cat/1.jpg.")
    assert notice_of_example_masks(["cat/1.jpg", "dog/1.png"]) is None
