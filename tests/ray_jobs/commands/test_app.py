"""The command line: JSON on stdout, messages on stderr, exit codes, and help texts."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cluster.errors import ClusterError, SourceError
from fewshot.errors import UnknownNameError
from fewshot.methods import DIFFUSION_SCORERS, METHODS
from ray_jobs.commands.app import GROUPS, app
from ray_jobs.commands.command_group import CommandGroup, Program, errors_as_exit_codes
from ray_jobs.console import interrupts
from ray_jobs.errors import DetachedError, JobError
from tests.ray_jobs.manifest.jobs import PLAIN
from tests.ray_jobs.place import fewshot
from tests.sources import ROOT


def commands_of(program: typer.Typer) -> dict[str, Any]:
    """The commands by name; of a group of commands, each by the names of both."""
    found = {}
    for name, command in typer.main.get_command(program).commands.items():
        inner = {f"{name} {each}": one for each, one in getattr(command, "commands", {}).items()}
        found |= inner or {name: command}
    return found


COMMANDS = commands_of(app)


def recipe() -> typer.Typer:
    """The program with the command that CONTRIBUTING.md shows."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    (block,) = (block for block in blocks if "CommandGroup(" in block)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    extended = typer.Typer(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
    for group in (*GROUPS, namespace["commands"]):
        extended.add_typer(group.app)
    return extended


EXTENDED = recipe()
EVERY = commands_of(EXTENDED)
"""The commands, and the one of the recipe."""


def test_methods_are_listed_with_family_and_summary():
    outcome = fewshot("methods")
    assert outcome.code == 0
    for where, known in (("methods", METHODS), ("escalate", DIFFUSION_SCORERS)):
        assert outcome.result[where].keys() == known.keys()
        for name, method in outcome.result[where].items():
            assert (method["summary"], method["family"]) == (known[name].summary, known[name].family)


@pytest.mark.parametrize("name", [*METHODS, *DIFFUSION_SCORERS])
def test_a_method_is_described_with_hyperparameters_and_source(name):
    outcome = fewshot("methods", name)
    assert outcome.code == 0
    info = (METHODS | DIFFUSION_SCORERS)[name]
    described = outcome.result
    assert described["key"] == ("classifier.method" if name in METHODS else "escalate.method")
    assert (described["name"], described["summary"], described["family"]) == (name, info.summary, info.family)
    fields = {field.name: field for field in dataclasses.fields(info.load())}
    assert [each["name"] for each in described["hyperparameters"]] == list(fields)
    for each in described["hyperparameters"]:
        assert each["type"], each
        default = each["default"]
        assert (tuple(default) if isinstance(default, list) else default) == fields[each["name"]].default
    text = " ".join(outcome.messages.replace("│", " ").split())
    assert info.summary in text
    assert info.paper is None or info.paper.url in text
    assert all(each["name"] in text for each in described["hyperparameters"])


def test_an_unknown_method_is_refused_with_the_nearest_one():
    outcome = fewshot("methods", "tip_adaptor")
    assert (outcome.code, outcome.result) == (2, None)
    assert "unknown method 'tip_adaptor'. Did you mean 'tip_adapter'?" in outcome.messages


def help_text(*words: str) -> str:
    """The help text of a command, as a terminal of 80 columns shows it."""
    done = CliRunner().invoke(
        EXTENDED if words else app, [*words, "--help"], prog_name="fewshot", env={"COLUMNS": "80", "TERM": "dumb"}
    )
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def test_the_recipe_of_contributing_adds_a_command():
    assert EVERY.keys() - COMMANDS.keys() == {"count"}
    done = CliRunner().invoke(EXTENDED, ["count", "runs/groceries"])
    assert json.loads(done.stdout) == {"output": "runs/groceries", "predictions": 0}


@pytest.mark.parametrize("name", EVERY)
def test_help_ends_with_an_example_that_parses(name):
    command = EVERY[name]
    example = help_text(*name.split()).rstrip().splitlines()[-1].strip()
    words = shlex.split(example.removeprefix("Example: ").partition(" > ")[0])
    named = ["fewshot", *name.split()]
    assert words[: len(named)] == named
    words = words[len(named) :]
    with command.make_context(name, words):
        pass


@pytest.mark.parametrize("name", EVERY)
def test_help_begins_with_one_line_in_the_imperative(name):
    summary = EVERY[name].help.partition("\n\n")[0]
    assert summary.endswith(".")
    assert len(summary) <= 75  # One line of the help text, without its margins.
    verb = summary.split()[0]
    assert verb[0].isupper()
    assert verb.isalpha()
    assert not verb.endswith(("s", "ing"))


@pytest.mark.parametrize("name", EVERY)
def test_help_explains_every_argument_and_option(name):
    for param in EVERY[name].params:
        assert param.help[0].isupper(), param.name
        assert param.help.rstrip(")").endswith("."), param.name
        assert param.help.replace("\\[", "[").split()[0] in help_text(*name.split()), param.name


@pytest.mark.parametrize("name", EVERY)
def test_help_shows_defaults(name):
    text = " ".join(help_text(*name.split()).replace("│", " ").split())
    for param in EVERY[name].params:
        if isinstance(param.default, str | Path) and param.default:
            assert f"[default: {param.default}]" in text, param.name


def test_help_texts_contain_no_lost_markup():
    assert "[clip] model" in help_text("models")
    assert "section [deploy]" in " ".join(help_text("manifest").split())


def test_help_of_the_program_groups_every_command():
    text = help_text()
    groups = {command.rich_help_panel for name, command in COMMANDS.items() if " " not in name}
    assert groups | {"Label"} == {"Run", "Look", "Label", "Retrain", "Cluster"}
    assert all(f"─ {group} ─" in text for group in groups)
    assert all(f"│ {name.partition(' ')[0]} " in text for name in COMMANDS)
    assert "─ Ledger of labels ─" in help_text("labels")


def test_help_of_the_program_ends_with_a_command_that_exists():
    last = help_text().rstrip().splitlines()[-1].strip()
    assert last.removeprefix("Get started: fewshot ") in COMMANDS


def test_version_is_that_of_the_package():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"fewshot {version('fewshot')}\n")


def test_an_unknown_command_is_refused():
    done = CliRunner().invoke(app, ["clasify", "job.toml"])
    assert done.exit_code == 2
    assert "Did you mean 'classify'?" in done.stderr


def test_the_module_runs_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs", "classify", "absent.toml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("error: there is no job file absent.toml\n")
    assert done.stderr.removeprefix("loading libraries …\n").count("\n") == 1


@pytest.mark.parametrize(("level", "code"), [("info", 0), ("DEBUG", 0), ("loud", 2)])
def test_the_log_level_is_checked(level, code):
    words = [sys.executable, "-m", "ray_jobs", "--version"]
    done = subprocess.run(words, env=os.environ | {"FEWSHOT_LOG": level}, capture_output=True, text=True, check=False)
    expected = "error: FEWSHOT_LOG: expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'loud'\n"
    assert (done.returncode, done.stderr) == (code, expected if code else "")


def test_an_unwritable_path_is_an_error_of_the_setup(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    outcome = fewshot("demo", "--folder", file)
    assert (outcome.code, outcome.messages) == (2, f"error: the demo cannot be written to {file}: Not a directory\n")
    job = tmp_path / "job.toml"
    job.write_text(PLAIN, encoding="utf-8")
    outcome = fewshot("manifest", job, "--output", file / "cluster.yaml")
    assert (outcome.code, outcome.messages) == (2, f"error: cannot write {file / 'cluster.yaml'}: Not a directory\n")


ERRORS = [
    (JobError(["first", "second"]), 2, "error: first\nerror: second\n"),
    (SourceError("no archive"), 2, "error: no archive\n"),
    (UnknownNameError("method", "appe", ["ape"]), 2, "error: unknown method 'appe'. Did you mean 'ape'? Known: ape.\n"),
    (PermissionError("denied"), 2, "error: denied\n"),
    (ClusterError("lost"), 1, "error: lost\n"),
    (DetachedError("job goes on"), 130, "error: job goes on\n"),
    (KeyboardInterrupt(), 130, "error: interrupted; finished work is kept, run again to resume\n"),
]


@pytest.mark.parametrize(("error", "code", "message"), ERRORS)
def test_each_class_of_errors_has_an_exit_code(capfd, monkeypatch, error, code, message):
    monkeypatch.setattr(interrupts, "_state", interrupts._State())
    with pytest.raises(typer.Exit) as caught, errors_as_exit_codes():
        raise error
    assert caught.value.exit_code == code
    assert capfd.readouterr() == ("", message)


def test_a_bug_is_not_taken_for_an_error_of_the_user():
    with pytest.raises(ZeroDivisionError), errors_as_exit_codes():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("result", "code"),
    [({}, 0), ({"complete": True}, 0), ({"complete": False}, 1), ({"complete": True, "too_many_unreadable": True}, 1)],
)
def test_a_result_is_json_on_stdout_and_an_exit_code(result, code):
    group = CommandGroup("Test")

    @group.add(example="fewshot test")
    def test() -> dict[str, object]:
        """Test."""
        sys.stdout.write("noise of a library\n")
        return result | {"accuracy": math.nan, "each": [math.inf, 0.5]}

    done = CliRunner().invoke(group.app, [])
    assert done.exit_code == code
    assert json.loads(done.stdout) == result | {"accuracy": None, "each": [None, 0.5]}
    assert done.stderr == "noise of a library\n"


def test_a_name_that_is_part_of_no_backbone_is_refused_with_near_ones():
    outcome = fewshot("models", "ViT-B23")
    assert (outcome.code, outcome.result) == (2, None)
    assert "unknown backbone 'ViT-B23'. Did you mean 'ViT-B-32'?" in outcome.messages
