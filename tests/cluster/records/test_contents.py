"""What a folder is, by what is in it: markers and sidecars change nothing, and a mixture is refused by name."""

from __future__ import annotations

import json
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import SourceError
from cluster.records import FORMS, delta_log, open_source
from cluster.records.contents import ENOUGH, MAX_STRAYS
from tests.cluster.records.archives import contents_of, tar_bytes, write_folder, zip_bytes

MARKERS = {
    "Spark": ["_SUCCESS", "._SUCCESS.crc", ".part-0.crc", "_temporary/0/a.jpg", "_committed_17", "_started_17"],
    "dask": ["_metadata", "_common_metadata"],
    "Delta": ["_delta_log/00000000000000000000.json", "_delta_log/0.checkpoint.parquet", "_delta_log/0.crc"],
    "WebDataset": ["__len__", "sizes.json", "0.index", "0_stats.json"],
    "the Hub": ["README.md", ".gitattributes", ".huggingface/x", ".cache/huggingface/x.lock", "dataset_infos.json"],
    "computers": [".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir/a.jpg/THUMB.jpg", "$RECYCLE.BIN/a.jpg"],
    "unknown": ["CODEOWNERS", "0.foo", "data.cfg"],
}


def put_table(path, columns):
    """Write a Parquet table and return its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path.parent


def put_images(path, key="a.jpg"):
    """Write a container with one image, of the form of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".parquet", ".pq"):
        put_table(path, {"image": [b"1"], "key": [key]})
    else:
        path.write_bytes({".tar": tar_bytes, ".zip": zip_bytes}[path.suffix]([(key, b"1")]))
    return path.parent


def reason_against(folder, **options):
    """Why a folder is refused, when it is opened or when it has been listed."""
    with pytest.raises(SourceError) as caught:
        list(open_source(str(folder), **options).shards())
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".tar", ".zip", ".parquet", ".pq"])
@pytest.mark.parametrize("of", MARKERS)
def test_markers_beside_containers_are_passed_over_and_counted(tmp_path, suffix, of):
    write_folder(tmp_path, dict.fromkeys(MARKERS[of], b"{}"))
    source = open_source(str(put_images(tmp_path / f"0{suffix}")))
    assert contents_of(source) == {"a.jpg": b"1"}
    assert source.skipped.count > 0


@pytest.mark.parametrize("of", [name for name in MARKERS if name != "unknown"])
def test_markers_beside_images_are_no_images(tmp_path, of):
    write_folder(tmp_path, dict.fromkeys(MARKERS[of], b"{}") | {"a.jpg": b"1"})
    assert contents_of(tmp_path) == {"a.jpg": b"1"}


@pytest.mark.parametrize("suffix", [".tar", ".zip", ".parquet"])
@pytest.mark.parametrize("image", ["preview.png", "0/first.JPG", "zebra.heic"])
def test_an_image_beside_containers_is_refused_with_both_ways_out(tmp_path, suffix, image):
    write_folder(tmp_path, {image: b"2", "README": b""})
    for name in ("0", "x/1"):
        put_images(tmp_path / f"{name}{suffix}", f"{name}.jpg")
    form = next(form.name for form in FORMS if form.holds(f"a{suffix}"))
    reason = reason_against(tmp_path)
    assert f"holds 2 {suffix} files and 1 image, such as {image}" in reason
    for option, expected in {form: {"0.jpg": b"1", "x/1.jpg": b"1"}, "folder": {image: b"2"}}.items():
        assert f'form = "{option}"' in reason
        assert contents_of(tmp_path, form=option) == expected
    assert contents_of(re.search(r'uri = "(.*?)"', reason)[1]) == {"0.jpg": b"1", "x/1.jpg": b"1"}


def test_a_form_that_is_named_need_be_there(tmp_path):
    write_folder(tmp_path, {"a.jpg": b"1"})
    assert "nothing of the form 'tar'" in reason_against(tmp_path, form="tar")
    assert "unknown form 'tars'; expected folder, tar, zip, parquet" in reason_against(tmp_path, form="tars")
    assert "is not a folder" in reason_against(tmp_path / "a.jpg", form="folder")


def test_a_container_is_read_under_any_name_if_its_form_is_named(tmp_path):
    (tmp_path / "photos.backup").write_bytes(tar_bytes([("a.jpg", b"1")]))
    assert contents_of(tmp_path / "photos.backup", form="tar") == {"a.jpg": b"1"}


@pytest.mark.parametrize("forms", [(".tar", ".zip"), (".tar", ".zip", ".parquet")])
def test_containers_of_several_forms_are_refused_by_name(tmp_path, forms):
    for suffix in forms:
        put_images(tmp_path / f"0{suffix}")
    assert "holds " + " and ".join(f"1 {suffix} file" for suffix in forms) in reason_against(tmp_path)
    assert contents_of(tmp_path, form="zip") == {"a.jpg": b"1"}


def test_a_table_for_each_tar_is_its_sidecar_unless_it_holds_images(tmp_path):
    put_images(tmp_path / "0.tar")
    put_table(tmp_path / "0.parquet", {"url": ["https://host/a.jpg"] * 9, "key": ["0"] * 9})
    assert contents_of(tmp_path) == {"a.jpg": b"1"}
    put_table(tmp_path / "0.parquet", {"jpg": [b"1"]})
    assert "1 .tar file and 1 .parquet file" in reason_against(tmp_path)


@pytest.mark.parametrize("name", ["a.parquet", "m/metadata.parquet", "z.pq"])
def test_tables_that_only_describe_the_images_beside_them_are_sidecars(tmp_path, name):
    images = {f"m/{number}.jpg": b"1" for number in range(4)}
    write_folder(tmp_path, images)
    for columns in ({"file_name": ["0.jpg"] * 99}, {"path": ["0.jpg"] * 8}, {"label": [1] * 99}):
        put_table(tmp_path / name, columns)
        source = open_source(str(tmp_path))
        assert source.kind == "folder"
        assert contents_of(source) == images
        assert source.skipped.examples == [name]


@pytest.mark.parametrize("name", ["a.parquet", "z.parquet"])
def test_a_table_that_holds_more_than_the_images_beside_it_is_refused(tmp_path, name):
    write_folder(tmp_path, {f"m/{number}.jpg": b"1" for number in range(4)})
    for columns in ({"image": [b"1"]}, {"url": ["https://host/a.jpg"] * 9}):
        put_table(tmp_path / name, columns)
        assert "holds 1 .parquet file and 4 images, such as m/0.jpg" in reason_against(tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    assert "holds 1 .parquet file and 4 images" in reason_against(tmp_path)


def test_as_many_files_of_unknown_kind_as_containers_are_passed_over_and_no_more(tmp_path):
    put_images(tmp_path / "0.tar")
    write_folder(tmp_path, {f"unknown{number}": b"" for number in range(MAX_STRAYS)})
    assert contents_of(tmp_path) == {"a.jpg": b"1"}
    write_folder(tmp_path, {"one_more": b""})
    reason = reason_against(tmp_path)
    assert f"1 .tar file and {MAX_STRAYS + 1} files of unknown kind, such as one_more" in reason
    for number in range(MAX_STRAYS):
        put_images(tmp_path / f"{number}.tar", f"{number}.jpg")
    put_images(tmp_path / "more.tar", "more.jpg")
    assert len(contents_of(tmp_path)) == MAX_STRAYS + 1


def test_images_without_suffixes_are_listed_once_and_a_tar_behind_them_is_found(tmp_path):
    names = {f"{number:05}": b"1" for number in range(ENOUGH + 1)}
    assert contents_of(write_folder(tmp_path, names)) == names
    put_images(tmp_path / "z.tar")
    assert open_source(str(tmp_path)).kind == "folder"
    assert f"1 .tar file and {ENOUGH + 1} files of unknown kind" in reason_against(tmp_path)


@pytest.mark.parametrize("suffix", ["rar", "7z", "tfrecord", "h5", "arrow", "tar.lz4", "mds"])
def test_a_folder_of_containers_that_nothing_reads_names_those_that_are(tmp_path, suffix):
    write_folder(tmp_path, {f"0.{suffix}": b"x", f"1.{suffix}": b"x", "README.md": b""})
    last = suffix.rpartition(".")[2]
    reason = reason_against(tmp_path)
    assert f"no images, only 2 .{last} files, 1 .md file: sidecars, or files of kinds that are not read" in reason
    assert "expected a folder of images, or a file, a folder or a glob of .tar" in reason
    single = reason_against(tmp_path / f"0.{suffix}")
    assert "not an archive" in single
    assert ".parquet" in single


@pytest.mark.parametrize("suffix", ["rar", "tfrecord", "h5", "arrow", "npz", "mdb"])
def test_a_preview_does_not_make_data_that_nothing_reads_a_folder_of_images(tmp_path, suffix):
    write_folder(tmp_path, {f"data-{n}.{suffix}": b"x" for n in range(2)} | {"preview.png": b"1", "state.json": b"{}"})
    assert f"holds 2 .{suffix} files, which are not read, and only 1 image, such as preview.png" in reason_against(
        tmp_path
    )
    assert contents_of(tmp_path, form="folder")["preview.png"] == b"1"
    write_folder(tmp_path, {"a.jpg": b"1"})
    assert open_source(str(tmp_path)).kind == "folder"
    assert list(open_source(str(tmp_path)).shards())


def test_containers_that_nothing_reads_beside_tars_are_refused(tmp_path):
    write_folder(put_images(tmp_path / "0.tar"), {"1.rar": b""})
    assert "holds 1 .tar file and 1 .rar file (not read)" in reason_against(tmp_path)
    assert contents_of(tmp_path, form="tar") == {"a.jpg": b"1"}


def test_a_glob_of_containers_and_images_is_refused(tmp_path):
    write_folder(put_images(tmp_path / "0.tar"), {"b.jpg": b"2"})
    assert "expected a glob that matches files of one form, such as *.tar" in reason_against(tmp_path / "*")
    assert contents_of(tmp_path / "0*") == {"a.jpg": b"1"}


def test_a_table_that_a_glob_matches_after_images_is_not_passed_over(tmp_path):
    write_folder(put_images(tmp_path / "z.parquet"), {"b.jpg": b"2", "metadata.parquet": b""})
    assert "the glob matches images and tables, such as z.parquet; expected a glob" in reason_against(tmp_path / "*")
    assert contents_of(tmp_path / "*.[jm]*") == {"b.jpg": b"2"}


def test_a_tar_that_comes_after_the_images_is_found_when_they_are_listed(tmp_path):
    put_images(write_folder(tmp_path, {f"{number}.jpg": b"1" for number in range(9)}) / "photos.tar")
    assert open_source(str(tmp_path)).kind == "folder"
    assert "holds 1 .tar file and 9 images, such as 0.jpg" in reason_against(tmp_path)


def action(kind, path, **more):
    return json.dumps({kind: {"path": path, **more}}) + "\n"


def write_delta_table(folder, checkpoint=False):
    """A Delta table of which the second of three files, in a folder of their own, was replaced by the third."""
    for number in range(4):
        put_images(folder / "d=é x" / f"{number}.parquet", f"{number}.jpg")
    path = "d=%C3%A9%20x/{}.parquet".format
    log = {0: action("add", path(0)) + action("add", path(1)), 1: action("remove", path(1)) + action("add", path(2))}
    commits = {f"_delta_log/{number:020}.json": text.encode() for number, text in log.items()}
    write_folder(folder, commits | {"_delta_log/_last_checkpoint": b"{}"})
    if checkpoint:
        rows = [{"path": path(0)}, None, {"path": path(1)}]
        put_table(folder / "_delta_log" / f"{0:020}.checkpoint.parquet", {"add": rows})
        (folder / "_delta_log" / f"{0:020}.json").unlink()
    return folder


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_current_version_of_a_delta_table_is_read(tmp_path, checkpoint):
    source = open_source(str(write_delta_table(tmp_path, checkpoint)))
    assert contents_of(source) == {"0.jpg": b"1", "2.jpg": b"1"}
    assert source.skipped.examples == ["_delta_log/", "d=é x/1.parquet", "d=é x/3.parquet"]


def test_a_file_of_a_delta_table_that_is_not_there_is_a_reason(tmp_path):
    (write_delta_table(tmp_path) / "d=é x/2.parquet").unlink()
    reason = "not found, but the log of the Delta table lists it"
    assert contents_of(tmp_path) == {"0.jpg": b"1", "d=é x/2.parquet": reason}


def test_a_delta_table_with_deleted_rows_is_refused(tmp_path):
    write_delta_table(tmp_path)
    added = action("add", "d=%C3%A9%20x/0.parquet", deletionVector={"cardinality": 1})
    write_folder(tmp_path, {f"_delta_log/{2:020}.json": added.encode()})
    assert "it has deletion vectors; write it anew as a Parquet table" in reason_against(tmp_path)


def test_a_log_of_a_delta_table_that_never_ends_is_refused(tmp_path, monkeypatch):
    write_delta_table(tmp_path)
    monkeypatch.setattr(delta_log, "MAX_BYTES", 150)
    assert "its log has more than 150 bytes; write it anew" in reason_against(tmp_path)
    monkeypatch.setattr(delta_log, "MAX_BYTES", 20)
    assert "too large" in reason_against(tmp_path)
    assert contents_of(tmp_path / "*/0.parquet") == {"0.jpg": b"1"}


def test_a_pipe_in_a_log_is_not_waited_for(tmp_path):
    put_images(tmp_path / "0.parquet")
    (tmp_path / "_delta_log").mkdir()
    os.mkfifo(tmp_path / "_delta_log" / f"{0:020}.json")
    assert f"{0:020}.json in its log: not a regular file" in reason_against(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"add": 1}', '{"add": {}}', "\xff", "[" * 99999])
def test_a_log_that_lists_no_file_hides_none(tmp_path, text):
    put_images(tmp_path / "0.parquet")
    write_folder(tmp_path, {f"_delta_log/{0:020}.json": text.encode("latin-1")})
    assert contents_of(tmp_path) == {"a.jpg": b"1"}


def test_a_cache_of_the_hub_is_refused_with_the_snapshot_to_read(tmp_path):
    blob = tmp_path / "datasets--me--photos/blobs" / ("0" * 40)
    snapshot = tmp_path / "datasets--me--photos/snapshots/abc"
    write_folder(blob.parent, {blob.name: b"1"})
    snapshot.mkdir(parents=True)
    (snapshot / "0.jpg").symlink_to(blob)
    for place in (tmp_path, tmp_path / "datasets--me--photos"):
        assert f"every file twice; expected {snapshot}" in reason_against(place)
    assert contents_of(snapshot, follow_links=True) == {"0.jpg": b"1"}


def test_blobs_without_a_snapshot_are_files_like_others(tmp_path):
    path = f"blobs/{'0' * 40}"
    assert contents_of(write_folder(tmp_path, {path: b"1"})) == {path: b"1"}


def test_only_the_named_component_counts_as_an_image(tmp_path):
    names = ["x.jpg", "X.JPG", "x.mask.png", "x.png", "x.a.jpg", ".x.jpg", "x", "y.z/x.jpg"]
    write_folder(tmp_path, dict.fromkeys(names, b"1"))
    assert set(contents_of(tmp_path, component="jpg")) == {"x.jpg", "X.JPG", "y.z/x.jpg"}
    assert set(contents_of(tmp_path, component="png; .mask.PNG")) == {"x.png", "x.mask.png"}
    assert "no images" in reason_against(tmp_path, component="gif")


def test_a_component_of_a_table_is_refused(tmp_path):
    reason = reason_against(put_images(tmp_path / "0.parquet"), component="jpg")
    assert "a parquet archive has no files or members that component = 'jpg' could name" in reason
