"""`fewshot registry`, as people type it."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from cluster import Store
from cluster.storage.objects import LocalObjects
from ray_jobs.commands.app import app
from ray_jobs.commands.registry_tables import outlook_sentence
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import (
    Accepted,
    Compared,
    Confirmed,
    Evidence,
    EvidenceBasis,
    JournalEntry,
    Move,
    Promoted,
    Pruned,
    Refused,
    Registered,
    Rejected,
    RolledBack,
)
from ray_jobs.results.registry_results import Outlook, VersionState
from tests.ray_jobs.commands.test_startup import bytecode, cpu_s, imported
from tests.ray_jobs.commands.test_startup import run as start
from tests.ray_jobs.registry.registered import EVIDENCE, open_local, version
from tests.sources import ROOT

__all__ = ["bytecode"]


OUTLOOKS = ((0.01, 9000), (0.02, 200), (0.04, None))


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output whose job "groceries" has two versions, the first of them in production."""
    journal = open_local(tmp_path)
    state = journal.state()
    for number in (1, 2):
        labels = LearnedLabels(("amber", "blue"), {f"{n}": ("amber",) for n in range(number)})
        each = version(number, labels=labels.put(journal.store, journal.folder))
        journal.store.put(f"{each.folder}/card.json", b"{}")
        state = journal.append(Registered(version=each), by="cron", why="a night", after=state)
        if number == 1:
            state = journal.append(Promoted(version=1, former=None), by="cron", why="first", after=state)
    return str(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["registry", *arguments])


def test_a_version_is_named_by_its_number(output: str) -> None:
    for words in (("show", output, "latest"), ("rollback", output, "--to", "0", "--why", "x")):
        done = run(*words)
        assert done.exit_code == 2
        text = " ".join(done.stderr.replace("│", " ").split())
        assert f"expected the number of a version, such as 3, got {words[2 + (words[0] == 'rollback')]!r}" in text


def test_outlooks_promise_no_more_labels_than_there_are_images() -> None:
    said = [outlook_sentence(Outlook(gain=gain, labels=labels), images=291) for gain, labels in OUTLOOKS]
    assert said == [
        "a gain of 1 point takes more labels to show than the archive has images (291)",
        "a gain of 2 points takes about 200 labels to show",
        "a gain of 4 points is not shown by any number of labels",
    ]


def test_versions_are_listed_promoted_rolled_back_and_pruned(output: str) -> None:
    listed = run("list", output)
    assert listed.exit_code == 0
    assert [each["state"] for each in json.loads(listed.stdout)["versions"]] == ["production", "candidate"]
    assert "version 1 is in production" in listed.stderr
    assert json.loads(run("promote", output, "2", "--why", "checked").stdout)["production"] == 2
    shown = run("show", output, "2")
    assert "version 2 was promoted by hand, in place of version 1" in shown.stderr
    assert "why: checked" in shown.stderr
    assert json.loads(shown.stdout)["version"]["state"] == "production"
    back = run("rollback", output, "--why", "wrong labels", "--by", "ann")
    assert "version 2 was taken back, version 1 is restored; in production: version 1" in back.stderr
    diff = run("diff", output, "1", "2", "--job", "groceries")
    assert "1 added, 0 removed, 0 relabelled" in diff.stderr
    assert json.loads(run("prune", output).stdout)["folders"] == []


def test_a_move_needs_a_reason(output: str) -> None:
    assert run("promote", output, "2").exit_code == 2
    assert run("promote", output, "2", "--why", " ").exit_code == 2
    assert run("rollback", output).exit_code == 2


def test_prune_shows_what_would_go_before_it_goes(output: str) -> None:
    assert run("reject", output, "2", "--why", "no label comes any more").exit_code == 0
    shown = run("prune", output, "--dry-run")
    assert json.loads(shown.stdout)["folders"] == [version(2).folder]
    assert "would be removed: 1 folder, 2 bytes; nothing was changed" in shown.stderr
    assert json.loads(run("prune", output).stdout)["folders"] == [version(2).folder]
    listed = json.loads(run("list", output).stdout)
    assert [each["state"] for each in listed["versions"]] == ["production", "removed"]


def test_evidence_is_shown_as_odds_with_time_and_reason(output: str, tmp_path: Path) -> None:
    journal = open_local(tmp_path)
    move = Promoted(version=2, former=1, is_watched=True, evidence=EVIDENCE)
    journal.append(move, by="cron", why="better: 9, worse: 2", after=journal.state())
    shown = run("show", output, "2").stderr
    assert (
        "2026-11-30 03:00 UTC, cron (entry 4): version 2 was promoted, in place of version 1, and is watched" in shown
    )
    assert "    why: better: 9, worse: 2" in shown
    assert (
        "    evidence: of 100 images labelled later, the newer version alone is right on 9, the older one alone on 2"
        in shown
    )


def test_a_registry_without_a_version_is_told(tmp_path: Path) -> None:
    Store(str(tmp_path)).put("registry/groceries/lease/1", b"{}")  # A first turn that was ended.
    listed = run("list", str(tmp_path))
    assert (listed.exit_code, json.loads(listed.stdout)["versions"]) == (0, [])
    assert "has no version yet: `fewshot retrain` makes the first" in listed.stderr
    for words in (("show", "1"), ("promote", "1", "--why", "x"), ("reject", "1", "--why", "x")):
        refused = run(words[0], str(tmp_path), *words[1:])
        assert refused.exit_code == 2
        assert "the registry has no version 1; it has none yet" in refused.stderr
    assert "no earlier production to go back to" in run("rollback", str(tmp_path), "--why", "x").stderr
    assert "nothing to remove" in run("prune", str(tmp_path), "--dry-run").stderr


@pytest.mark.parametrize("words", [("list",), ("show", "1"), ("rollback", "--why", "harm"), ("prune",)])
def test_a_damaged_entry_is_named_with_what_to_do(output: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "registry/groceries/journal/000002.json").write_text("{")
    refused = run(words[0], output, *words[1:])
    assert refused.exit_code == 2
    assert "000002.json is damaged" in refused.stderr
    assert "from a copy: what is in production is decided by all entries together" in refused.stderr


@pytest.mark.parametrize("words", [("promote", "2", "--why", "checked"), ("reject", "2", "--why", "x"), ("prune",)])
def test_storage_that_cannot_be_written_to_is_told_and_can_be_read(
    output: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_objects: LocalObjects, path: str, _data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    for name in ("write", "write_new"):
        monkeypatch.setattr(LocalObjects, name, refuse)
    refused = run(words[0], output, *words[1:])
    assert refused.exit_code == 1
    assert "could not create" in refused.stderr
    assert "Read-only file system" in refused.stderr
    assert run("list", output).exit_code == 0
    assert run("prune", output, "--dry-run").exit_code == 0


MAX_CPU_S = 1.0
"""CPU seconds of a rollback; where the machine is slow or busy, three times `BASELINE` counts."""
BASELINE = "import numpy, fsspec, pyarrow, pydantic, typer, rich.console"


@pytest.mark.parametrize("words", [("show", "2"), ("promote", "2", "--why", "checked")], ids=["show", "promote"])
def test_a_look_and_a_move_load_no_torch(output: str, words: tuple[str, ...], bytecode: Path) -> None:
    done = start(["registry", words[0], output, *words[1:]], {}, bytecode)
    assert {"torch", "open_clip", "ray", "scipy", "PIL"}.isdisjoint(imported(done))


def test_a_rollback_takes_a_second(output: str, bytecode: Path) -> None:
    run("promote", output, "2", "--why", "checked")
    arguments = ["registry", "rollback", output, "--to", "1", "--why", "harm"]
    assert {"torch", "open_clip", "ray", "scipy", "PIL"}.isdisjoint(imported(start(arguments, {}, bytecode)))
    assert [each["state"] for each in json.loads(run("list", output).stdout)["versions"]] == ["production", "rejected"]
    least = cpu_s(arguments, {}, bytecode)
    assert least <= MAX_CPU_S or least <= 3 * cpu_s([], {}, bytecode, BASELINE)


def test_an_output_without_a_registry_and_unknown_jobs_are_told(output: str, tmp_path: Path) -> None:
    empty = run("list", str(tmp_path / "other"))
    assert empty.exit_code == 2
    assert "has no registry: the first `fewshot retrain` makes one" in empty.stderr
    unknown = run("list", output, "--job", "fruit")
    assert unknown.exit_code == 2
    assert "has a registry of the job groceries, not of fruit: name one with --job" in unknown.stderr
    journal = open_local(tmp_path)
    journal.store.put("registry/fruit/journal/000001.json", b"{}")
    several = run("list", output)
    assert "has registries of the jobs fruit, groceries: name one with --job" in several.stderr


PAGE = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")


def test_the_documented_commands_exist_and_parse() -> None:
    group = get_command(app).commands["registry"]  # type: ignore[attr-defined]
    shown = [shlex.split(line)[1:] for line in re.findall(r"^\$ (fewshot .*)$", PAGE, re.M)]
    assert {words[1] for words in shown} == set(group.commands)
    for words in shown:
        assert words[0] == "registry"
        group.commands[words[1]].make_context(words[1], words[2:])


def test_the_page_names_all_that_a_journal_consists_of() -> None:
    named = set(re.findall(r"`([a-z_ ]+)`", PAGE))
    kinds = (Registered, Refused, Accepted, Compared, Promoted, Rejected, RolledBack, Confirmed, Pruned)
    assert set(get_args(Move)) == set(kinds)
    for kind in (*kinds, Evidence, JournalEntry):
        assert {item.name for item in fields(kind)} - {"kind"} <= named, kind.__name__
    assert {item.default for kind in kinds for item in fields(kind) if item.name == "kind"} <= named
    assert set(get_args(VersionState)) <= named
    assert all(basis in PAGE for basis in get_args(EvidenceBasis))
