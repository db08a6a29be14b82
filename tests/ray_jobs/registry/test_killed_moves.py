"""Commands that are killed before, within or after a write: old state or new one, and the new one when run again.

`FEWSHOT_KILLS=all pytest -n 0 tests/ray_jobs/registry/test_killed_moves.py` kills them at every moment of every write;
without it, at a few, the first and the last one included.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import exclusive_create
from cluster.storage import store as store_module
from cluster.storage.objects import Objects, open_objects
from ray_jobs.registry.journal import Journal
from ray_jobs.registry.registry_state import RegistryState
from tests.chaos.kill_points import spread
from tests.ray_jobs.place import fewshot, warm
from tests.ray_jobs.registry.registered import open_local, with_classifiers

pytestmark = pytest.mark.slow

KILLS = sys.maxsize if os.environ.get("FEWSHOT_KILLS") == "all" else 5
WRITES = ("write", "write_new", "delete")
COMMANDS = {
    "promote": ("promote", "5", "--why", "checked"),
    "rollback": ("rollback", "--why", "harm"),
    "rollback to": ("rollback", "--to", "2", "--why", "harm"),
    "reject": ("reject", "5", "--why", "no label comes any more"),
    "prune": ("prune", "--keep", "2"),
}
"""Commands and their arguments; the versions are those of `with_classifiers`."""


class Moments:
    """Counts the moments at which a process might be killed, and kills this one at one of them.

    Args:
        last: number of the moment, from 1; 0 is none.
    """

    def __init__(self, last: int) -> None:
        self.count = 0
        self._last = last

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalObjects:
    """Objects with a moment before and after each write."""

    def __init__(self, objects: Objects, moments: Moments) -> None:
        self._objects, self._moments = objects, moments

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._objects, name)
        if name not in WRITES:
            return operation

        def mortal(*arguments: object) -> object:
            self._moments.pass_one()
            try:
                return operation(*arguments)
            finally:
                self._moments.pass_one()

        return mortal


def run_until(last: int, words: list[str], counter: Path, *, has_links: bool) -> None:
    """Run a command in this process, which is killed at a moment, or writes how many moments there are."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    moments, flush = Moments(last), os.fsync

    def fsync(descriptor: int) -> None:
        moments.pass_one()  # The bytes are in a temporary file, or have their name.
        flush(descriptor)

    vars(os)["fsync"] = fsync
    vars(store_module)["open_objects"] = lambda *where: MortalObjects(open_objects(*where), moments)
    if not has_links:
        vars(os)["link"] = refuse_link
    code = fewshot(*words).code
    counter.write_text(str(moments.count))
    sys.exit(code)


def refuse_link(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def start(last: int, words: list[str], counter: Path, *, has_links: bool) -> int | None:
    """Run a command in a process of its own, and return its exit code, negative if a signal ended it."""
    process = warm().Process(target=run_until, args=(last, words, counter), kwargs={"has_links": has_links})
    process.start()
    process.join()
    return process.exitcode


def words_of(command: str, output: Path) -> list[str]:
    """Return the words of a command for an output."""
    name, *arguments = COMMANDS[command]
    return ["registry", name, str(output), *arguments, "--by", "ann"]


def lasting(journal: Journal) -> set[str]:
    """All objects but those of leases and claims."""
    return {path for path in journal.store.list() if "/lease/" not in path and "/claims-" not in path}


def kills(folder: Path, command: str, *, has_links: bool) -> Iterator[tuple[int, Journal, RegistryState, set[str]]]:
    """Kill a command at its moments; yield the moment, the journal, and the state and objects to expect."""
    template = with_classifiers(open_local(folder / "template"))
    shutil.copytree(folder / "template", folder / "whole")
    assert start(0, words_of(command, folder / "whole"), folder / "count", has_links=has_links) == 0
    whole = open_local(folder / "whole")
    after, objects = whole.state(), lasting(whole)
    assert after != template.state()
    for moment in spread(int((folder / "count").read_text()), KILLS):
        output = folder / str(moment)
        shutil.copytree(folder / "template", output)
        assert start(moment, words_of(command, output), folder / "unused", has_links=has_links) == -signal.SIGKILL
        yield moment, open_local(output), after, objects
        shutil.rmtree(output)


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_is_completed_by_running_it_again(
    tmp_path: Path, command: str, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:
        monkeypatch.setattr("cluster.storage.objects.os.link", refuse_link)
        monkeypatch.setattr(exclusive_create, "STALE_CLAIM_S", 0.1)
    before = with_classifiers(open_local(tmp_path / "before")).state()
    found = set()
    for moment, journal, after, objects in kills(tmp_path, command, has_links=has_links):
        state = journal.state()
        assert state in (before, after), f"moment {moment}"
        found.add(state == after)
        kept = {number for number in state.versions if number not in state.pruned}
        stored = lasting(journal)
        assert {f"{state.versions[number].folder}/card.json" for number in kept} <= stored
        outcome = fewshot(*words_of(command, Path(journal.store.root)))
        assert outcome.code == 0, outcome.messages
        assert (journal.state(), lasting(journal)) == (after, objects), f"moment {moment}"
    assert found == {True, False}
