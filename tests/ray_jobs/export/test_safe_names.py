"""Names of files are safe whatever the keys are, and no two images share one."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.export.safe_names import MAX_BYTES, TakenNames, folder_names, image_name, safe_name, tree_path
from tests.ray_jobs.export.exports import export
from tests.ray_jobs.place import picture
from tests.ray_jobs.written_run import WrittenRun

HOSTILE = ("../up.jpg", "/etc/passwd.jpg", "a/../../b.jpg", "..", ".", "", "/", "a//b.jpg", "con.jpg", ".hidden.jpg")


@given(st.text(max_size=300))
def test_any_text_gives_a_safe_name(text):
    name = safe_name(text, suffix=".jpg")
    assert name.endswith(".jpg")
    assert len(name.encode()) <= MAX_BYTES
    assert name == PurePosixPath(name).name
    assert not name.startswith(".")
    assert not set(name) & set('<>:"/\\|?*\0\n')


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("a/b/c.JPG", "a_b_c.JPG"),
        ("../../x.png", "x.png"),
        ("/etc/x.png", "etc_x.png"),
        ("what?.jpg", "what_.jpg"),
        ("aux.jpg", "_aux.jpg"),
        (".jpg", "_.jpg"),
        ("trailing. .jpg", "trailing.jpg"),
    ],
)
def test_keys_give_readable_names(key, name):
    assert image_name(key) == name


@pytest.mark.parametrize("key", HOSTILE)
def test_no_path_leads_out_of_the_tree(key):
    path = PurePosixPath(tree_path(key, suffix=".xmp"))
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert path.name


@given(st.lists(st.text("aA2-.é", max_size=4), max_size=30))
def test_taken_names_differ_whatever_the_case(paths):
    taken = TakenNames()
    names = [taken.take(f"{path}.jpg") for path in paths]
    taken.close()
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(paths)


def test_repeated_names_are_numbered():
    taken = TakenNames()
    assert [taken.take(name) for name in ("a.jpg", "A.jpg", "a-2.jpg", "a.jpg")] == [
        "a.jpg",
        "A-2.jpg",
        "a-2-2.jpg",
        "a-3.jpg",
    ]


def test_a_hundred_thousand_equal_names_take_linear_time():
    taken = TakenNames()
    assert [taken.take("a.jpg") for _ in range(100_000)][-1] == "a-100000.jpg"


def test_classes_have_folders_of_their_own():
    assert folder_names(["Apple", "apple", "a/b", "a:b", ".."]) == {
        "Apple": "Apple",
        "apple": "apple-2",
        "a/b": "a_b",
        "a:b": "a_b-2",
        "..": "_",
    }


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_hostile_keys_stay_in_the_folder(tmp_path, kind):
    keys = ("../up.jpg", "/etc/passwd.jpg", "x/../../out.jpg", "Case.jpg", "case.jpg", "a\nb.jpg", "l" * 230 + ".jpg")
    images = {key: picture("amber", seed) for seed, key in enumerate(keys)}
    run = WrittenRun(tmp_path / "deep" / "run").write(images, kind=kind)
    before = set(tmp_path.rglob("*"))
    for to in ("imagefolder", "huggingface", "labelstudio", "fiftyone", "xmp"):
        result = export(run, to, tmp_path / "deep" / to, statuses=("ok", "abstained"))
        assert result.rows + result.unreadable == len(keys)
        new = set(tmp_path.rglob("*")) - before
        assert all(path.is_relative_to(tmp_path / "deep" / to) for path in new)
        copied = [path for path in new if path.suffix == (".xmp" if to == "xmp" else ".jpg")]
        assert len(copied) == result.rows
        assert len({str(path).casefold() for path in copied}) == result.rows or to == "xmp"
        before |= new
