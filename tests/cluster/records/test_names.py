import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.records.names import component_of, is_entry, is_hidden, is_sidecar, plain_path, printable, sample_of

NAMES = st.text(st.characters(codec=None), max_size=12)


@given(name=NAMES, other=NAMES)
@example("a\n", "a\\n")
@example("\udcff", "\\udcff")
def test_printable_names_are_one_line_of_unicode_and_never_shared(name, other):
    assert len(printable(name).splitlines()) <= 1
    printable(name).encode()
    assert (printable(name) == printable(other)) == (name == other)


@pytest.mark.parametrize("name", ["a b.jpg", "Straße 東京.png", "👩‍🔬.webp", "Screenshot 9.41\u202fAM.png"])
def test_ordinary_names_stay_as_they_are(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("a//b", "a/b"),
        ("./a/./b", "a/b"),
        ("//a/b/", "/a/b"),
        ("a/../b", "a/../b"),
        (".a/b.", ".a/b."),
        (".", "."),
        ("", ""),
        ("s3://b//c/./d", "s3://b//c/./d"),
    ],
)
def test_a_plain_path_has_no_dots_and_no_empty_parts(path, plain):
    assert plain_path(path) == plain


@pytest.mark.parametrize(("name", "expected"), [("a/b.TXT", True), ("LICENSE", True), ("a.jpg", False), ("a", False)])
def test_sidecars_are_recognised_by_name(name, expected):
    assert is_sidecar(name) is expected


SIDECARS = {
    "editors and cameras": ["a.xmp", "a.jpg.xmp", "A.AAE", "a.THM", "a.pp3", "Icon\r", "a/Icon\r"],
    "computers": ["Thumbs.db", "x/desktop.ini", "a.lnk", "a.url"],
    "WebDataset": ["a.cls", "a.cls2", "a.json", "a.txt", "a.url", "a.npy", "a.pyd", "a.ten", "a.msgpack", "__len__"],
    "masks": ["a.mask.png", "x/a.SEG.png", "a.b.depth.png", "a.label.tif", "a.gt.tiff"],
    "tables": ["_metadata", "_common_metadata", "x=1/_SUCCESS", "_committed_1", "0.crc", "a.jsonl.gz", "a.csv.zst"],
    "repositories": ["README", "a.md", "CHANGELOG", "a.jpg.dvc", "dvc.lock", "sha256sums", "CITATION.cff"],
}
IMAGES = [
    "a.jpg",
    "mask.png",
    "a.mask.jpg",
    "metadata.jpg",
    "_DSC1.jpg",
    "icon",
    "a.thm.jpg",
    "cls.png",
    "a.jpg.gz",
    "a.",
]


@pytest.mark.parametrize("name", [name for names in SIDECARS.values() for name in names])
def test_what_lies_beside_images_is_a_sidecar(name):
    assert is_sidecar(name)
    assert not is_entry(name)


@pytest.mark.parametrize("name", IMAGES)
def test_images_and_what_may_be_one_are_no_sidecars(name):
    assert not is_sidecar(name)
    assert is_entry(f"x/{name}")


@pytest.mark.parametrize(
    "folder", ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "_delta_log", "lost+found", ".git"]
)
def test_folders_that_systems_keep_for_themselves_are_hidden(folder):
    assert is_hidden(f"a/{folder}/x.jpg")
    assert is_hidden(folder.lower())
    assert not is_hidden(f"my {folder}/x.jpg")


@pytest.mark.parametrize(
    ("name", "component", "sample"),
    [("a/b.jpg", "jpg", "a/b"), ("b.Seg.PNG", "seg.png", "b"), ("a.b/c", "", "a.b/c"), ("x.1.2", "1.2", "x")],
)
def test_samples_and_components_are_those_of_webdataset(name, component, sample):
    assert component_of(name) == component
    assert sample_of(name) == sample
