"""`fewshot registry`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ray_jobs.commands.app import app
from ray_jobs.registry.learned_labels import LearnedLabels
from ray_jobs.registry.moves import Promoted, Registered
from tests.ray_jobs.registry.registered import open_local, version


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
    assert "rolled back to version 1; in production: version 1" in back.stderr
    diff = run("diff", output, "1", "2", "--job", "groceries")
    assert "1 added, 0 removed, 0 relabelled" in diff.stderr
    assert json.loads(run("prune", output).stdout)["folders"] == []


def test_a_move_needs_a_reason(output: str) -> None:
    assert run("promote", output, "2").exit_code == 2
    assert run("rollback", output).exit_code == 2


def test_an_output_without_a_registry_and_unknown_jobs_are_told(output: str, tmp_path: Path) -> None:
    empty = run("list", str(tmp_path / "other"))
    assert empty.exit_code == 2
    assert "has no registry: the first `fewshot retrain` makes one" in empty.stderr
    unknown = run("list", output, "--job", "fruit")
    assert unknown.exit_code == 2
    assert "has registries of the jobs groceries, not of fruit: name one with --job" in unknown.stderr
    journal = open_local(tmp_path)
    journal.store.put("registry/fruit/journal/000001.json", b"{}")
    several = run("list", output)
    assert "has registries of the jobs fruit, groceries: name one with --job" in several.stderr
