from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import Retry, SourceError, Storage, StorageError, Store
from cluster.storage.filesystems import open_filesystem
from tests.cluster.faulty import cut_half_way, fails, faults, slow, write_temporary_file

paths = st.lists(st.sampled_from(["a", "ab", "b.bin", "c d", "é", "x=1"]), min_size=1, max_size=3).map("/".join)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def faulty_store(clock: Clock | None = None, *, deadline_s: float = 60.0) -> Store:
    clock = clock or Clock()
    return Store("faulty://bucket/run", retry=Retry(deadline_s=deadline_s, clock=lambda: clock.now, sleep=clock.sleep))


@pytest.fixture(params=["local", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    roots = {"local": str(tmp_path / "s"), "file": f"file://{tmp_path}/s", "memory": f"memory://{uuid4().hex}/s"}
    return Store(roots[request.param])


def test_an_object_exists_from_put_to_delete(store: Store) -> None:
    assert not store.exists("a/b.bin")
    store.put("a/b.bin", b"first")
    store.put("a/b.bin", b"second!")
    assert (store.get("a/b.bin"), store.size("a/b.bin"), store.exists("a/b.bin")) == (b"second!", 7, True)
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")


def test_a_missing_object_is_file_not_found(store: Store) -> None:
    for operation in (store.get, store.size):
        with pytest.raises(FileNotFoundError):
            operation("nowhere/x.bin")


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.put("folder/x", b"1")
    assert not store.exists("folder")


def test_a_listing_has_only_objects_of_its_folder(store: Store) -> None:
    for path in ("a/1", "a/b/2", "ab/3", "4"):
        store.put(path, b"")
    assert list(store.list("a")) == list(store.list("a/")) == ["a/1", "a/b/2"]
    assert list(store.list()) == ["4", "a/1", "a/b/2", "ab/3"]
    assert list(store.list("missing")) == []


def test_sizes_are_those_of_a_listing(store: Store) -> None:
    for path in ("a/1", "a/b/22", "ab/333", "4"):
        store.put(path, path.encode())
    assert store.sizes("a") == {"a/1": 3, "a/b/22": 6}
    assert store.sizes() == {"a/1": 3, "a/b/22": 6, "ab/333": 6, "4": 1}
    assert store.sizes("missing") == {}


def test_folders_lists_one_level_only(store: Store) -> None:
    for path in ("a/1", "a/b/c/2", "a/d/3", "ab/4", "5"):
        store.put(path, b"")
    assert list(store.folders("a")) == list(store.folders("a/")) == ["a/b", "a/d"]
    assert list(store.folders()) == ["a", "ab"]
    assert list(store.folders("missing")) == []


def test_only_the_first_of_two_writers_creates(store: Store) -> None:
    assert store.put_if_absent("lease", b"mine")
    assert not store.put_if_absent("lease", b"yours")
    assert store.get("lease") == b"mine"


def test_one_of_many_concurrent_writers_creates(tmp_path: Path) -> None:
    store, start = Store(str(tmp_path)), threading.Barrier(8)

    def create(index: int) -> bool:
        start.wait()
        return store.put_if_absent("lease", str(index).encode())

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert sum(won) == 1
    assert store.get("lease") == str(won.index(True)).encode()


@settings(max_examples=30, deadline=None)
@given(objects=st.dictionaries(paths, st.binary(max_size=20), max_size=6))
def test_a_store_returns_what_was_put(objects: dict[str, bytes]) -> None:
    folders = {path[:end] for path in objects for end in range(len(path)) if path[end] == "/"}
    objects = {path: data for path, data in objects.items() if path not in folders}
    store = Store(f"memory://{uuid4().hex}")
    for path, data in objects.items():
        store.put(path, data)
    assert {path: store.get(path) for path in store.list()} == objects


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/"])
def test_a_path_outside_the_store_is_refused(store: Store, path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        store.put(path, b"")


def test_names_of_temporary_files_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="reserved"):
        store.put("a/.tmp-x", b"")


def test_a_store_is_equal_after_pickling(tmp_path: Path) -> None:
    store = Store("s3://bucket/prefix", storage=Storage(endpoint="https://host:9000", region="x"))
    copy = pickle.loads(pickle.dumps(store))
    assert (copy, hash(copy)) == (store, hash(store))
    assert Store("s3://bucket/prefix/").root == store.root
    assert copy != Store("s3://bucket/prefix")


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("runs/a")
    monkeypatch.chdir("/")
    store.put("x", b"1")
    assert store.is_local
    assert (tmp_path / "runs/a/x").read_bytes() == b"1"
    assert store.url("x") == str(tmp_path / "runs/a/x")
    assert Store("s3://bucket/p").url("x") == "s3://bucket/p/x"
    assert not Store("s3://bucket/p").is_local


def test_credentials_in_urls_are_refused_and_never_shown() -> None:
    with pytest.raises(StorageError, match="environment") as caught:
        Store("sftp://me:hunter2@host/folder")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="environment") as caught:
        Storage(endpoint="https://me:hunter2@host:9000")
    assert "hunter2" not in str(caught.value)


def test_threads_share_one_file_system() -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: open_filesystem("memory://one/x", Storage())[0], range(8)))
    assert len({id(filesystem) for filesystem in opened}) == 1


def test_s3_listings_are_never_cached() -> None:
    filesystem, _ = open_filesystem("s3://bucket/prefix", Storage(anonymous=True))
    assert not filesystem.dircache.use_listings_cache


@pytest.mark.parametrize(
    "fault", [fails(TimeoutError("late")), fails(OSError(errno.EBUSY, "SlowDown")), cut_half_way, slow]
)
def test_a_write_that_fails_twice_is_whole_afterwards(fault: Callable[..., None]) -> None:
    with faults(write=[fault, fault]):
        faulty_store().put("a", b"0123456789")
        assert faulty_store().get("a") == b"0123456789"


def test_each_write_is_one_request() -> None:
    with faults() as filesystem:
        faulty_store().put("a/b/c", b"x")
        assert filesystem.calls == ["write", "acknowledge"]


@pytest.mark.parametrize("operation", ["read", "look_up", "list"])
def test_reads_and_listings_are_retried(operation: str) -> None:
    with faults(**{operation: [fails(ConnectionResetError("cut")), fails(TimeoutError("late"))]}):
        store = faulty_store()
        store.put("f/a", b"x")
        assert (store.get("f/a"), store.exists("f/a"), list(store.list("f"))) == (b"x", True, ["f/a"])


def test_a_listing_that_breaks_half_way_is_repeated() -> None:
    with faults(list=[None, fails(ConnectionResetError("cut"))]):
        store = faulty_store()
        for path in ("f/a/1", "f/b/2", "f/3"):
            store.put(path, b"")
        assert list(store.list("f")) == ["f/3", "f/a/1", "f/b/2"]


def test_retries_end_at_the_deadline() -> None:
    clock = Clock()
    message = r"could not write faulty://bucket/run/a: TimeoutError: late\..*resume"
    with faults(write=[fails(TimeoutError("late"))] * 100), pytest.raises(StorageError, match=message):
        faulty_store(clock, deadline_s=30.0).put("a", b"x")
    assert clock.now <= 30.0
    assert all(later > earlier for earlier, later in zip(clock.naps, clock.naps[1:], strict=False) if earlier < 8)
    assert len(clock.naps) >= 5


def test_a_full_disk_fails_without_retries() -> None:
    clock = Clock()
    full = fails(OSError(errno.ENOSPC, "No space left on device"))
    with faults(write=[full]), pytest.raises(StorageError, match=r"is full .*free some space"):
        faulty_store(clock).put("a", b"x")
    assert clock.naps == []


@pytest.mark.parametrize("error", [FileNotFoundError("no such bucket"), PermissionError("denied")])
def test_permanent_errors_are_raised_without_retries(error: OSError) -> None:
    clock = Clock()
    with faults(write=[fails(error)]), pytest.raises(type(error), match=str(error)):
        faulty_store(clock).put("a", b"x")
    assert clock.naps == []


def test_a_program_error_is_not_a_storage_error() -> None:
    with faults(write=[fails(ZeroDivisionError("oops"))]), pytest.raises(ZeroDivisionError):
        faulty_store().put("a", b"x")


def test_a_create_whose_response_was_lost_succeeds() -> None:
    with faults():
        assert faulty_store().put_if_absent("so that the store is probed before the faults", b"")
    with faults(acknowledge=[fails(ConnectionResetError("response lost"))]):
        assert faulty_store().put_if_absent("lease", b"mine")
    with faults(write=[None, fails(TimeoutError("late"))]):
        assert faulty_store().put_if_absent("lease", b"mine")
        assert not faulty_store().put_if_absent("lease", b"yours")


def test_a_writer_killed_before_the_rename_leaves_no_object(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from cluster import Store;"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL);"
        "Store(sys.argv[1]).put('f/part', b'x' * 100_000)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name[:5] for path in (tmp_path / "f").iterdir()] == [".tmp-"]
    assert list(Store(str(tmp_path)).list()) == []
    assert not Store(str(tmp_path)).exists("f/part")


def test_only_stale_temporary_files_are_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("f/part", b"1")
    os.utime(tmp_path / "f/part", (0, 0))
    stale, fresh, deeper = (
        write_temporary_file(tmp_path / f, age) for f, age in (("f", 1e5), ("f", 1e3), ("f/g", 1e5))
    )
    foreign = write_temporary_file(tmp_path / "f", 1e5).rename(tmp_path / "f/.tmp-of-another-program")
    os.utime(foreign, (0, 0))
    assert (
        store.remove_stale_files("f"),
        store.remove_stale_files("f"),
        store.remove_stale_files("missing"),
        store.remove_stale_files(""),
    ) == (1, 0, 0, 0)
    assert not stale.exists()
    assert all(path.exists() for path in (fresh, deeper, foreign, tmp_path / "f/part"))


def test_removing_stale_files_of_remote_storage_does_nothing() -> None:
    store = Store(f"memory://{uuid4().hex}")
    store.put("f/part", b"1")
    assert store.remove_stale_files("f") == 0
    assert list(store.list()) == ["f/part"]


def test_a_pipe_in_the_place_of_an_object_is_an_error_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    store = Store(str(tmp_path))
    with pytest.raises(StorageError, match="not supported"):
        store.get("a")
    store.put("a", b"new")
    assert store.get("a") == b"new"


def test_a_failed_local_write_keeps_the_old_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.put("a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cluster.storage.objects.os.fsync", full)
    with pytest.raises(StorageError, match="full"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_objects_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        Store(str(tmp_path)).put("a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/a: .*choose another location"):
        Store(str(tmp_path / "file")).put("a", b"x")


def test_a_folder_in_the_place_of_an_object_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    store = Store(str(tmp_path))
    expected = rf"could not \w+ {tmp_path}/a: a folder has its name\. Remove or rename this folder, and run again\.$"
    for operation in (store.get, store.delete, lambda path: store.put(path, b"x")):
        with pytest.raises(StorageError, match=expected):
            operation("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES])
def test_a_file_system_that_cannot_flush_folders_is_written_to(tmp_path, monkeypatch, number):
    flush = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    store = Store(str(tmp_path), retry=Retry(deadline_s=0))
    store.put("a/b", b"1")
    assert store.put_if_absent("a/c", b"2")
    assert (store.get("a/b"), store.get("a/c")) == (b"1", b"2")


def test_a_disk_that_fails_to_flush_fails_the_write(tmp_path, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"could not write .*Input/output error"):
        Store(str(tmp_path), retry=Retry(deadline_s=0)).put("a", b"1")


def test_a_folder_that_can_be_written_to_is_found_without_writing(tmp_path):
    Store(str(tmp_path / "new/deeper")).check_writable()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_found_without_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=f"could not write {tmp_path}/file/output: .*[Nn]ot a directory"):
        Store(str(tmp_path / "file/output")).check_writable()
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(StorageError, match=r"[Nn]ot a directory"):
        Store(str(tmp_path / "broken/output")).check_writable()
    disk = os.statvfs(tmp_path)
    for changes, message in (({9: 0, 4: 0}, "No space left"), ({8: os.ST_RDONLY}, "Read-only file system")):
        values = os.statvfs_result([changes.get(index, value) for index, value in enumerate(disk)])
        monkeypatch.setattr(os, "statvfs", lambda _, values=values: values)
        with pytest.raises(StorageError, match=message):
            Store(str(tmp_path / "output")).check_writable()
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"could not write {tmp_path}/output: .*Permission denied"):
        Store(str(tmp_path / "output")).check_writable()


@pytest.mark.parametrize("root", ["~nosuchuser/output", "file://~nosuchuser/output", "a\0b", "s3://bucket/a\0b"])
def test_a_text_that_is_no_place_is_refused(root):
    with pytest.raises(SourceError, match=r"no home folder ~nosuchuser; write ./~nosuch|NUL character"):
        Store(root)


@pytest.mark.parametrize("root", ["s3://me:pass/word@bucket/x", "s3://bucket/x?token=1", "https://host/x;sig=1"])
def test_a_place_with_a_secret_in_it_is_refused(root):
    with pytest.raises(StorageError, match=r"contains a .*; pass credentials through the environment"):
        Store(root)


def test_a_path_that_is_too_long_is_an_error_of_storage(tmp_path):
    store = Store(str(tmp_path / ("a" * 5000)))
    with pytest.raises(StorageError, match="File name too long"):
        store.check_access()


def test_a_throttled_request_is_tried_for_longer_than_one_to_a_server_that_is_down():
    clock = Clock()
    retry = Retry(deadline_s=10, throttled_deadline_s=60, clock=lambda: clock.now, sleep=clock.sleep)

    def failing(message: str) -> float:
        clock.now = 0.0

        def attempt() -> None:
            raise OSError(message)

        with pytest.raises(OSError, match=message):
            retry.call(attempt, is_transient=lambda _: True, is_throttled=lambda error: "slow down" in str(error))
        return clock.now

    assert failing("refused") < 10 < 40 < failing("slow down") < 60
