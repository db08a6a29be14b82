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

from ray_jobs.commands import cluster_group, look_group, run_group
from ray_jobs.commands.command_group import EXIT_CODES, SOME_FAILED, Program
from ray_jobs.console.interrupts import install_handlers
from ray_jobs.console.sanitize import configure_logging, sanitized

app = typer.Typer(
    name="fewshot",
    cls=Program,
    help="Classify image archives from a handful of labelled examples, on this machine or on a Ray cluster.",
    epilog=f"{EXIT_CODES}\n\nGet started: fewshot demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (run_group, look_group, cluster_group):
    app.add_typer(group.commands.app)


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
    configure_logging(os.environ.get("FEWSHOT_LOG", "WARNING"))
    try:
        app(prog_name="fewshot")
    except Exception:  # noqa: BLE001 -- a bug in this project: its traceback helps, but may quote a secret
        sys.stderr.write(sanitized(traceback.format_exc()))
        sys.exit(SOME_FAILED)
