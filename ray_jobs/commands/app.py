"""The `fewshot` command: its groups of commands, `--version`, and the entry point.

Importing this module, and so `--help`, `--version` and shell completion, costs little more than importing typer: each
command imports what it runs when it runs. `tests/ray_jobs/commands/test_startup.py` lists the packages allowed here.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from ray_jobs.commands import cluster_group, label_group, look_group, registry_group, run_group, schedule_group
from ray_jobs.commands.command_group import EXIT_CODES, SOME_FAILED, WRONG, Program
from ray_jobs.console.interrupts import install_handlers
from ray_jobs.console.sanitize import configure_logging, sanitized

GROUPS = (
    run_group.commands,
    look_group.commands,
    label_group.commands,
    registry_group.commands,
    schedule_group.commands,
    cluster_group.commands,
)
"""In the order of the help text."""
LOG_LEVEL = "FEWSHOT_LOG"
"""Environment variable with the least level of log messages on stderr."""

app = typer.Typer(
    name="fewshot",
    cls=Program,
    help="Classify image archives from a handful of labelled examples, on this machine or on a Ray cluster.",
    epilog=f"{EXIT_CODES}\n\n{LOG_LEVEL}=INFO (or DEBUG) in the environment shows log messages.\n\n"
    "Get started: fewshot demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in GROUPS:
    app.add_typer(group.app)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        sys.stdout.write(f"fewshot {version('fewshot')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Define the options of `fewshot` itself; its help text stands above."""


def main() -> None:
    """Run the console command."""
    install_handlers(os.environ)
    try:
        configure_logging(os.environ.get(LOG_LEVEL, "WARNING"))
    except ValueError as error:
        sys.stderr.write(f"error: {LOG_LEVEL}: {error}\n")
        sys.exit(WRONG)
    try:
        app(prog_name="fewshot")
    except Exception:  # noqa: BLE001 -- a bug in this project: its traceback helps, but may quote a secret
        sys.stderr.write(sanitized(traceback.format_exc()))
        sys.exit(SOME_FAILED)
