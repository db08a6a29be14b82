"""What the command promises to whoever calls it: JSON on stdout, words on stderr, and an exit code."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys

import pytest
import typer

from fewshot.methods import DIFFUSION_SCORERS, METHODS
from ray_jobs.commands.app import app
from tests.ray_jobs.manifest.jobs import PLAIN
from tests.ray_jobs.place import fewshot

COMMANDS = typer.main.get_command(app).commands


def test_methods_are_listed_with_their_hyperparameters():
    outcome = fewshot("methods")
    assert outcome.code == 0
    for where, known in (("methods", METHODS), ("escalate", DIFFUSION_SCORERS)):
        assert outcome.result[where].keys() == known.keys()
        for name, method in outcome.result[where].items():
            assert method["summary"] == known[name].summary
            assert method["hyperparameters"].keys() == {field.name for field in dataclasses.fields(known[name].load())}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_parses(name):
    command = COMMANDS[name]
    program, subcommand, *words = shlex.split(command.epilog.removeprefix("Example: "))
    assert (program, subcommand) == ("fewshot", name)
    with command.make_context(name, words):
        pass


def test_the_program_itself_points_to_a_command_that_exists():
    epilog = typer.main.get_command(app).epilog
    assert epilog.removeprefix("Begin with: fewshot ") in COMMANDS


def test_a_word_that_is_no_command_is_refused():
    assert fewshot("clasify", "job.toml").code == 2


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs", "classify", "absent.toml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no job file absent.toml\n"


def test_what_cannot_be_written_is_told_and_no_mistake_of_ours(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    messages = fewshot("demo", "--folder", in_the_way)
    assert (messages.code, messages.messages) == (
        2,
        f"error: the demo cannot be written to {in_the_way}: Not a directory\n",
    )
    job = tmp_path / "job.toml"
    job.write_text(PLAIN, encoding="utf-8")
    messages = fewshot("manifest", job, "--output", in_the_way / "cluster.yaml")
    assert (messages.code, messages.messages) == (
        2,
        f"error: cannot write {in_the_way / 'cluster.yaml'}: Not a directory\n",
    )
