"""Every form of archive, held to the promise that each entry becomes exactly one record."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import StorageError
from cluster.errors import ChangedError
from cluster.records import FORMS, Skipped, open_source, pick, read_shard, reading
from tests.cluster.faulty import fails, faults, instant_retry
from tests.cluster.records.archives import contents_of, records_of
from tests.cluster.records.builders import BUILDERS
from tests.cluster.records.s3_server import s3_server

pytestmark = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
few = settings(max_examples=10, deadline=None)

IMAGES = {f"{number % 3}/{number:02d} é.jpg": b"%d" % number * (number % 7) for number in range(30)}
NO_IMAGES = {".DS_Store": b"1", ".git/a.jpg": b"2", "__MACOSX/._a.jpg": b"3", "a.txt": b"4", "0/a.JSON": b"5"}
NAMES = st.from_regex(r"([a-c]/){0,2}[a-zé東0-9 #%?*\[\]+&-]{1,12}", fullmatch=True).map("{}.jpg".format)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=300), min_size=1, max_size=12)


def builder_of(form):
    if form.name not in BUILDERS:
        pytest.fail(f"no builder for the form {form.name!r}: add one to BUILDERS in tests/cluster/records/builders.py")
    return BUILDERS[form.name]


@pytest.fixture
def builder(form):
    return builder_of(form)


@pytest.fixture
def impatient(monkeypatch):
    """Give up on storage at once."""
    monkeypatch.setattr(reading, "RETRY", instant_retry())


@pytest.fixture(scope="module")
def running_server():
    with s3_server() as running:
        yield running


@pytest.fixture
def server(running_server):
    """An S3 server with an empty bucket."""
    running_server.reset()
    return running_server


def write(builder, folder, contents, name="images"):
    """An archive in a folder of its own."""
    folder.mkdir(exist_ok=True)
    builder.write(folder / f"{name}{builder.suffix}", contents)
    return folder


def archive_in(builder, folder):
    """What opens such a folder as an archive of the form."""
    return f"{folder}/{builder.place}" if builder.place else str(folder)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def outcomes(archive, **options):
    """For each shard its records, by its fingerprint."""
    return {shard.fingerprint: list(read_shard(shard)) for shard in open_source(str(archive), **options).shards()}


def in_folder(form, contents):
    """The contents as they are keyed below the folder that `write` makes."""
    return contents if form.suffixes else {f"images/{key}": data for key, data in contents.items()}


def test_the_builder_writes_the_form(form, builder, tmp_path):
    write(builder, tmp_path / "a", IMAGES)
    assert open_source(archive_in(builder, tmp_path / "a")).kind == form.name
    assert builder.suffix in (form.suffixes or ("",))


@few
@given(contents=CONTENTS)
def test_every_entry_is_one_record_with_its_bytes(form, tmp_path_factory, contents):
    builder = builder_of(form)
    folder = write(builder, tmp_path_factory.mktemp("archive"), contents)
    records = records_of(archive_in(builder, folder))
    assert len({record.key for record in records}) == len(records)
    assert {record.key: record.data for record in records} == in_folder(form, contents)
    assert {record.source for record in records} == {f"images{builder.suffix}" if form.suffixes else ""}


def test_a_file_a_folder_and_a_glob_hold_the_same(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    expected = in_folder(form, IMAGES)
    place = archive_in(builder, folder)
    assert contents_of(place) == contents_of(f"{place}/") == expected
    if form.suffixes:
        assert contents_of(folder / f"images{builder.suffix}") == contents_of(f"{folder}/*{builder.suffix}") == expected


def test_every_suffix_of_the_form_opens_it_in_any_case(form, builder, tmp_path):
    for suffix in form.suffixes:
        (folder := tmp_path / suffix).mkdir()
        builder.write(folder / f"images{suffix}", IMAGES).rename(folder / f"images{suffix.upper()}")
        place = folder / f"images{suffix.upper()}" if builder.place else folder
        assert open_source(str(place)).kind == form.name
        assert contents_of(place) == IMAGES


@pytest.mark.parametrize("shard_records", [1, 4, 1000])
def test_shards_of_any_size_hold_the_same_records_in_the_same_order(form, builder, tmp_path, shard_records):
    archive = archive_in(builder, write(builder, tmp_path / "a", IMAGES))
    shards = list(open_source(archive, shard_records=shard_records).shards())
    parts = [list(read_shard(shard, threads=threads)) for threads, shard in enumerate(shards, start=1)]
    assert [record for part in parts for record in part] == records_of(archive)
    assert all(shard.size in (None, len(part)) for shard, part in zip(shards, parts, strict=True))
    assert len({shard.fingerprint for shard in shards}) == len(shards)


def test_reading_twice_gives_the_same_records(form, builder, tmp_path):
    write(builder, tmp_path / "a", IMAGES)
    source = open_source(archive_in(builder, tmp_path / "a"), shard_records=4)
    assert records_of(source) == records_of(source)
    for shard in source.shards():
        assert list(read_shard(shard)) == list(read_shard(shard))


def test_shards_survive_pickling(form, builder, tmp_path):
    write(builder, tmp_path / "a", IMAGES)
    for shard in open_source(archive_in(builder, tmp_path / "a"), shard_records=10).shards():
        copy = pickle.loads(pickle.dumps(shard))
        assert copy == shard
        assert list(read_shard(copy)) == list(read_shard(shard))


def test_records_at_some_positions_are_those_of_the_whole_shard(form, builder, tmp_path):
    write(builder, tmp_path / "a", IMAGES)
    for shard in open_source(archive_in(builder, tmp_path / "a"), shard_records=10).shards():
        records = list(read_shard(shard))
        rows = [len(records) - 1, 0, len(records) // 2, 0]
        assert list(pick(shard, rows)) == [records[row] for row in sorted(set(rows))]


def test_hidden_entries_and_sidecars_are_counted(form, builder, tmp_path):
    write(builder, tmp_path / "a", IMAGES | NO_IMAGES)
    source, skipped = open_source(archive_in(builder, tmp_path / "a")), Skipped()
    for _ in range(2):
        skipped.clear()
        records = [record for shard in source.shards() for record in read_shard(shard, skipped=skipped)]
        assert len(records) + source.skipped.count + skipped.count == len(IMAGES | NO_IMAGES)
        assert {record.key for record in records} == set(
            in_folder(form, IMAGES if builder.has_names else IMAGES | NO_IMAGES)
        )


def test_entries_that_cannot_be_read_are_records_with_a_reason(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    expected = in_folder(form, IMAGES)
    reasons = builder.write_broken(folder / f"more{builder.suffix}")
    contents = contents_of(archive_in(builder, folder))
    assert {key: data for key, data in contents.items() if isinstance(data, bytes)} == expected
    for key, pattern in reasons.items():
        assert re.search(pattern, str(contents.pop(key if form.suffixes else f"more/{key}")))
    assert contents == expected


def test_a_container_that_is_none_is_one_record_with_a_reason(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    for name, data in {"empty": b"", "garbage": b"garbage" * 500}.items() if form.suffixes else ():
        (folder / f"{name}{builder.suffix}").write_bytes(data)
        contents = contents_of(archive_in(builder, folder))
        (folder / f"{name}{builder.suffix}").unlink()
        assert len(str(contents.pop(f"{name}{builder.suffix}"))) > 10
        assert contents == IMAGES


@few
@given(share=st.floats(0.01, 0.99))
def test_a_container_that_is_cut_off_loses_no_entry_without_a_reason(form, tmp_path_factory, share):
    builder, folder = builder_of(form), tmp_path_factory.mktemp("archive")
    write(builder, folder, {"good.jpg": b"1"}, name="good")
    if not form.suffixes or not builder.marks_its_end:
        return
    write(builder, folder, IMAGES, name="cut")
    cut = folder / f"cut{builder.suffix}"
    os.truncate(cut, int(share * cut.stat().st_size))
    contents = contents_of(folder)
    assert contents.pop("good.jpg") == b"1"
    reasons = {key for key, data in contents.items() if isinstance(data, str)}
    whole = {key: data for key, data in contents.items() if isinstance(data, bytes)}
    assert whole.items() <= IMAGES.items()
    assert reasons or whole == IMAGES


def test_an_entry_that_is_too_large_is_not_read(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", {"small.jpg": b"1234", "large.jpg": b"12345"})
    assert contents_of(archive_in(builder, folder), max_bytes=4) == in_folder(
        form, {"small.jpg": b"1234", "large.jpg": "too large: 5 bytes, at most 4 are read"}
    )


def test_a_fingerprint_stands_for_its_records_wherever_the_archive_is(form, builder, server, tmp_path):
    """On S3, where a version depends on the content alone."""
    changed = IMAGES | {"0/03 é.jpg": b"2"}
    fewer = dict(list(IMAGES.items())[1:])
    variants = [IMAGES, IMAGES, fewer, IMAGES | {"new.jpg": b"1"}]
    if builder.has_contents:
        variants += [changed, dict.fromkeys(IMAGES, b"x")]
    known, names = {}, []
    for number, contents in enumerate(variants):
        folder = write(builder, tmp_path / str(number), contents)
        server.objects.update({f"{number}/{path}": data for path, data in files_of(folder).items()})
        for max_bytes in (4, 1000) if number == 0 else (1000,):
            options = {"storage": server.storage, "shard_records": 8, "max_bytes": max_bytes}
            found = outcomes(archive_in(builder, f"s3://bucket/{number}"), **options)
            assert all(known.setdefault(name, records) == records for name, records in found.items())
        names.append(set(found))
    assert names[0] == names[1]
    assert all(a != b for i, a in enumerate(names[1:]) for b in names[1:][:i])


def test_a_local_archive_keeps_its_fingerprints_when_it_is_moved(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    place, copy = (archive_in(builder, name) for name in (folder, tmp_path / "b"))
    source, before = open_source(place), outcomes(place)
    assert outcomes(place) == before
    shutil.copytree(folder, tmp_path / "b")
    assert outcomes(copy) == before
    assert open_source(copy).fingerprint != source.fingerprint
    shutil.rmtree(folder)
    write(builder, folder, IMAGES | {"0/03 é.jpg": b"other"})
    assert outcomes(place).keys() != before.keys()
    assert open_source(place).fingerprint == source.fingerprint


def test_every_storage_gives_the_same_records(form, builder, server, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES | NO_IMAGES)
    expected = records_of(archive_in(builder, folder))
    memory = fsspec.filesystem("memory")
    for path, data in files_of(folder).items():
        memory.pipe_file(f"/{tmp_path.name}-{form.name}/{path}", data)
        server.objects[f"a/{path}"] = data
    assert records_of(archive_in(builder, f"memory://{tmp_path.name}-{form.name}")) == expected
    assert records_of(archive_in(builder, "s3://bucket/a"), storage=server.storage) == expected


def test_an_archive_that_changed_since_it_was_listed_is_not_read_under_its_old_name(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    shards = list(open_source(archive_in(builder, folder), shard_records=10).shards())
    shutil.rmtree(folder)
    write(builder, folder, {key: data + b"changed" for key, data in IMAGES.items()})
    for shard in shards:
        try:
            records = list(read_shard(shard))
        except ChangedError:
            continue
        assert {record.error for record in records} == {"changed since it was listed; run again"}


def test_an_archive_that_is_gone_since_it_was_listed_is_a_reason(form, builder, tmp_path):
    folder = write(builder, tmp_path / "a", IMAGES)
    shards = list(open_source(archive_in(builder, folder), shard_records=10).shards())
    shutil.rmtree(folder)
    records = [record for shard in shards for record in read_shard(shard)]
    assert records
    assert all("not found" in str(record.error) for record in records)


def test_storage_that_is_down_is_retried_and_then_raised(form, builder, tmp_path, impatient):
    files = files_of(write(builder, tmp_path / "a", IMAGES))
    with faults() as filesystem:
        for path, data in files.items():
            filesystem.pipe_file(f"/a/{path}", data)
        expected = records_of(archive_in(builder, "faulty://a"))
        shards = list(open_source(archive_in(builder, "faulty://a"), shard_records=10).shards())
        operation = "read" if builder.has_contents else "open"
        filesystem.plan[operation] = [fails(ConnectionResetError("cut"))]
        assert [record for shard in shards for record in read_shard(shard)] == expected
        for shard in shards:
            filesystem.plan[operation] = [fails(ConnectionResetError("cut"))] * 99
            with pytest.raises(StorageError, match="images"):
                list(read_shard(shard))


def test_reading_writes_nothing_to_disk(form, builder, tmp_path, monkeypatch):
    folder, empty = write(builder, tmp_path / "a", IMAGES), tmp_path / "empty"
    empty.mkdir()
    before = files_of(folder)
    monkeypatch.chdir(empty)
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    records_of(archive_in(builder, folder))
    assert files_of(folder) == before
    assert not list(empty.iterdir())
