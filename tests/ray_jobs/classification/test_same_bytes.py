"""The same rows whatever the archive is kept in, and the same bytes however the work is spread or cut off."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.records import FORMS
from ray_jobs.inputs.archive import archive_units
from tests.cluster.records.builders import BUILDERS
from tests.ray_jobs.place import Place, kill_again_and_again, picture, ray_workers

RAY = "cluster.mode=ray"


@pytest.fixture(scope="module")
def large(tmp_path_factory, tiny_clip):
    """An archive of many small shards."""
    place = Place(tmp_path_factory.mktemp("large"), tiny_clip).fill(images=90)
    place.write_job(archive={"shard_images": 2}, classifier={"method": "ape"})
    return place


@pytest.fixture(scope="module")
def expected(large):
    """What one run in one process writes."""
    outcome = large.classify(f"job.output={large.folder / 'plain'}")
    assert outcome.code == 0
    return outcome.bytes


def files_of(place):
    return {path.relative_to(place.archive).as_posix(): path for path in place.archive.rglob("*") if path.is_file()}


def as_form(form):
    """The files in one container of this form."""

    def write(place, folder):
        builder = BUILDERS[form.name]
        contents = {name: path.read_bytes() for name, path in sorted(files_of(place).items())}
        return builder.write(folder / f"archive{builder.suffix}", contents)

    return pytest.param(write, id=form.name)


def as_bytes(place, folder):
    names, paths = zip(*sorted(files_of(place).items()), strict=True)
    table = pa.table({"key": names, "image": [path.read_bytes() for path in paths]})
    pq.write_table(table, folder / "bytes.parquet", row_group_size=7)
    return folder / "bytes.parquet"


def as_uris(place, folder):
    names, paths = zip(*sorted(files_of(place).items()), strict=True)
    table = pa.table({"key": names, "uri": [path.as_uri() for path in paths]})
    pq.write_table(table, folder / "uris.parquet")
    return folder / "uris.parquet"


def as_list(place, folder):
    rows = [{"key": name, "path": str(path)} for name, path in sorted(files_of(place).items())]
    (folder / "list.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "list.jsonl"


def as_glob(place, folder):
    del folder
    return place.archive / "**"


KEPT = [*(as_form(form) for form in FORMS if form.has_members), as_bytes, as_uris, as_list, as_glob]


@pytest.mark.parametrize("kept", KEPT)
def test_every_form_of_an_archive_gives_the_same_rows(finished, tmp_path, kept):
    outcome = finished.classify(f"archive.uri={kept(finished, tmp_path)}", f"job.output={tmp_path / 'output'}")
    assert outcome.code == 0
    assert_same(outcome.rows, finished.classify().rows)


def assert_same(rows, others):
    """The same images with the same labels, and scores that differ by 1e-5 at most."""
    assert rows.keys() == others.keys()
    for image, row in rows.items():
        other = others[image]
        assert [row[name] for name in ("label", "status", "error")] == [other[n] for n in ("label", "status", "error")]
        assert row["score"] == (other["score"] and pytest.approx(other["score"], abs=1e-5))


def test_shard_neighbours_change_only_last_bits(finished, tmp_path):
    together = finished.classify("archive.shard_images=50", f"job.output={tmp_path}")
    assert_same(together.rows, finished.classify().rows)


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 3])
def test_ray_writes_the_bytes_of_one_process(ray_session, large, expected, workers):
    output = large.folder / f"ray_{workers}"
    outcome = large.classify(RAY, f"cluster.clip_workers={workers}", f"job.output={output}")
    assert outcome.code == 0
    assert f"{workers} worker" in outcome.messages
    assert outcome.bytes == expected


@pytest.mark.ray
def test_a_killed_worker_changes_no_byte(ray_session, large, expected, monkeypatch):
    earlier, killed = ray_workers(), []

    def hand_out(*source, **options):
        for number, unit in enumerate(archive_units(*source, **options)):
            if number == 8:  # Others are done, and one that was handed out before is not.
                killed.extend(ray_workers() - earlier)
                for worker in killed:
                    worker.kill()
            yield unit

    monkeypatch.setattr("ray_jobs.classification.classify.archive_units", hand_out)
    outcome = large.classify(RAY, "cluster.clip_workers=1", f"job.output={large.folder / 'killed_worker'}")
    assert len(killed) == 1
    assert "worker lost" in outcome.messages
    assert outcome.code == 0
    assert outcome.bytes == expected


@pytest.mark.slow
def test_a_repeatedly_killed_job_ends_with_the_same_bytes(large, expected):
    output = f"job.output={large.folder / 'killed_driver'}"
    assert kill_again_and_again("classify", large.job, output, chance=random.Random(0), parts=(10, 45), runs=30) >= 4
    again = large.classify(output)
    assert (again.result["did"], again.rows.keys()) == ("nothing", large.classify().rows.keys())
    assert again.bytes == expected


def test_pictures_of_the_archive_differ():
    assert picture("amber", 1) != picture("blue", 1) != picture("blue", 2)
