"""An export is there as a whole or not at all, and takes nothing's place that was not an export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from ray_jobs.errors import JobError
from ray_jobs.export.destination import MANIFEST
from ray_jobs.export.exported_rows import ExportedRows
from ray_jobs.export.format_table import FORMATS
from tests.ray_jobs.export.exports import export, pictures, write_rows
from tests.ray_jobs.written_run import RUN, WrittenRun
from tests.strange_files import encode


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return WrittenRun(tmp_path_factory.mktemp("run")).write(pictures("a.jpg", "b.jpg", "c.jpg"))


@pytest.fixture
def failing(monkeypatch):
    """Storage that breaks off after the first row."""
    rows = ExportedRows._rows

    def some(self, part, table):
        yield next(rows(self, part, table))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ExportedRows, "_rows", some)


@pytest.mark.parametrize("to", ["csv", "imagefolder"])
def test_a_failed_export_leaves_nothing(run, tmp_path, failing, to):
    with pytest.raises(JobError, match="No space left"):
        export(run, to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", ["csv", "imagefolder"])
def test_a_failed_export_leaves_the_earlier_one(run, tmp_path, monkeypatch, request, to):
    export(run, to, tmp_path / "out")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    request.getfixturevalue("failing")
    with pytest.raises(JobError):
        export(run, to, tmp_path / "out", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


@pytest.mark.slow
@pytest.mark.parametrize("to", ["csv", "xmp"])
def test_a_killed_export_leaves_nothing_that_looks_complete(tmp_path, to):
    run = write_rows(tmp_path / "run", 20_000)
    words = ["export", run.store.url(RUN), "--to", to, "--out", str(tmp_path / "place" / "out")]
    process = subprocess.Popen([sys.executable, "-m", "ray_jobs", *words], stdout=-3, stderr=-3)
    while not (tmp_path / "place").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(path.name.startswith(".tmp-") for path in (tmp_path / "place").iterdir())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    tiny = encode(Image.new("RGB", (2, 2)), "PNG")
    run = WrittenRun(tmp_path_factory.mktemp("many"))
    return run.write({f"{index:04}.png": tiny for index in range(2000)}, kind="parquet")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["coco", "imagefolder", "huggingface", "fiftyone", "labelstudio"])
def test_an_export_killed_halfway_leaves_the_earlier_one(many, tmp_path, to):
    place = tmp_path / "place"
    first = export(many, to, place / "out", min_score=0.999)
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    words = ["export", many.store.url(RUN), "--to", to, "--out", str(place / "out"), "--overwrite"]
    process = subprocess.Popen([sys.executable, "-m", "ray_jobs", *words], stdout=-3, stderr=-3)
    while sum(path.stat().st_size for path in place.glob(".tmp-*/**/*")) < 20_000 and to != "coco":
        assert process.poll() is None
        time.sleep(0.001)
    while not any(path.stat().st_size for path in place.glob(".tmp-*")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = {path for path in place.rglob("*") if path.is_file() and ".tmp-" not in str(path)}
    assert {path: path.read_bytes() for path in left} == files
    assert not any(path.name == MANIFEST for path in place.glob(".tmp-*/*"))
    again = export(many, to, place / "out", overwrite=True)
    assert again.rows > first.rows


@pytest.mark.parametrize("to", ["csv", "imagefolder"])
def test_an_earlier_export_is_replaced_on_request_alone(run, tmp_path, to):
    export(run, to, tmp_path / "out", statuses=("ok", "abstained"))
    with pytest.raises(JobError, match="add --overwrite"):
        export(run, to, tmp_path / "out")
    result = export(run, to, tmp_path / "out", overwrite=True, classes=("amber",))
    assert result.rows == 1
    if to == "imagefolder":
        assert len(list((tmp_path / "out").glob("*/*"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_is_no_export_is_never_replaced(run, tmp_path, overwrite):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(JobError, match="no earlier export"):
        export(run, "imagefolder", tmp_path / "photos", overwrite=overwrite)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("to", ["csv", "imagefolder"])
def test_an_empty_place_may_be_there(run, tmp_path, to):
    if to == "csv":
        (tmp_path / "out").touch()
    else:
        (tmp_path / "out").mkdir()
    assert export(run, to, tmp_path / "out").rows


@pytest.mark.parametrize(("to", "kind"), [("csv", "a folder"), ("imagefolder", "a file"), ("csv", "a symbolic link")])
def test_another_kind_of_place_is_refused(run, tmp_path, to, kind):
    out = tmp_path / "out"
    if kind == "a folder":
        out.mkdir()
    elif kind == "a file":
        out.touch()
    else:
        out.symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(JobError, match=f"{kind}; name another place"):
        export(run, to, out, overwrite=True)


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
@pytest.mark.parametrize("place", ["archive", "output/predictions"])
def test_a_place_among_images_or_results_is_refused(run, each, place):
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(JobError, match=r"--out: .*/new lies in .*; name a place outside"):
        export(run, each.name, run.folder / place / "new", overwrite=True)
    assert sorted(run.folder.rglob("*")) == before


def test_an_export_around_the_archive_is_not_replaced(tmp_path):
    run = WrittenRun(tmp_path / "sorted").write(pictures("a.jpg"))
    (tmp_path / "sorted" / MANIFEST).write_text("{}")
    with pytest.raises(JobError, match="holds the archive"):
        export(run, "xmp", tmp_path / "sorted", overwrite=True)


def test_a_place_without_a_name_is_refused(run):
    with pytest.raises(JobError, match="no name of a file"):
        export(run, "csv", "/")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_to_is_named(run, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises((JobError, PermissionError), match=str(tmp_path)):
        export(run, "csv", tmp_path / "out.csv")


def test_a_folder_says_what_is_in_it(run, tmp_path):
    result = export(run, "xmp", tmp_path / "out", classes=("amber", "blue"))
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == result.to_json()


@pytest.mark.s3
@pytest.mark.parametrize("to", ["csv", "coco", "imagefolder", "huggingface", "fiftyone", "labelstudio", "xmp"])
def test_a_bucket_gets_the_same_files(run, tmp_path, bucket, to, monkeypatch):
    from ray_jobs.console.progress import Reporter
    from ray_jobs.export.export_run import ExportRequest, export_run

    def to_bucket(**options):
        request = ExportRequest(format=to, out=bucket.url("deep/out"), **options)
        return export_run(run.store.url(RUN), request, bucket.storage, reporter=Reporter())

    export(run, to, tmp_path / "out")
    result = to_bucket()
    assert result.path == bucket.url("deep/out")
    there = {path: bucket.store("deep").get(path) for path in bucket.store("deep").list()}
    here = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert there.keys() == here.keys()
    differing = {path for path in there if there[path] != here[path]}
    assert {path.rpartition("/")[2] for path in differing} <= {MANIFEST, "tasks-00000.json"}
    with pytest.raises(JobError, match="add --overwrite"):
        to_bucket()
    to_bucket(overwrite=True)
    assert set(bucket.store("deep").list()) == there.keys()


@pytest.mark.s3
def test_a_failed_export_to_a_bucket_has_no_manifest(run, bucket, failing):
    from ray_jobs.console.progress import Reporter
    from ray_jobs.export.export_run import ExportRequest, export_run

    request = ExportRequest(format="xmp", out=bucket.url("out"))
    with pytest.raises(JobError):
        export_run(run.store.url(RUN), request, bucket.storage, reporter=Reporter())
    assert f"out/{MANIFEST}" not in list(bucket.store().list())
