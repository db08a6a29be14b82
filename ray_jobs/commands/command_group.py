"""Groups of commands: JSON results on stdout, tables and messages on stderr, errors as exit codes."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from ray_jobs.console.interrupts import INTERRUPTED, acknowledge, report
from ray_jobs.console.json_result import format_result
from ray_jobs.console.sanitize import sanitized
from ray_jobs.console.waiting import loading

DONE, SOME_FAILED, WRONG, ALARM = 0, 1, 2, 3
EXIT_CODES = (
    "Exit codes: 0 done; 1 some work failed, run again to retry it, or too many or all images are unreadable; "
    "2 the job file or the setup is wrong, nothing was run; 130 interrupted."
)
"""For the help texts of commands that do a job's work."""

P = ParamSpec("P")
JsonResult: TypeAlias = dict[str, Any]
"""A result as JSON. An alias, and not the type of `ray_jobs.results`: importing that would slow `--help` down."""


@dataclass(frozen=True, slots=True)
class Continued:
    """A result that is written before the command goes on: what follows may fail.

    Attributes:
        result: as JSON.
        go_on: what follows; of its result the exit code is taken, and nothing is written to stdout.
    """

    result: JsonResult
    go_on: Callable[[], JsonResult]


class Command(TyperCommand):
    """A command of `fewshot`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters for the help text."""
        return _plain_flags(super().get_params(ctx))


class Program(TyperGroup):
    """`fewshot` itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters for the help text."""
        return _plain_flags(super().get_params(ctx))


class CommandGroup:
    """Commands that the help of `fewshot` shows together.

    Args:
        title: heading of the group.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.app = typer.Typer()

    def add(
        self, *, example: str, exit_codes: bool = False, name: str | None = None
    ) -> Callable[[Callable[P, JsonResult | Continued | str]], Callable[P, None]]:
        """Add a function as a command whose result is JSON.

        The function returns the result and shows it to people on stderr. The JSON goes to stdout unless that is a
        terminal. The exit code is 1 if the result says that the work is not `complete`, or `too_many_unreadable`, and
        3 if it `fails` on an alarm, or labels were `refused`. A command that goes on after its result returns
        `Continued`. A command that can also write text returns that as it is, for stdout.

        Args:
            example: command line that ends the help text.
            exit_codes: explain the exit codes in the help text.
            name: of the command; None takes that of the function.

        Returns:
            a decorator; the function's docstring is the help text.
        """

        def decorate(function: Callable[P, JsonResult | Continued | str]) -> Callable[P, None]:
            @wraps(function)
            def command(*args: P.args, **kwargs: P.kwargs) -> None:
                with errors_as_exit_codes(), loading(), redirect_stdout(sys.stderr):  # Ray reports losses on stdout.
                    result = function(*args, **kwargs)
                if isinstance(result, str):
                    sys.stdout.write(result)
                    raise typer.Exit(DONE)
                if isinstance(result, Continued):
                    _write(result.result)
                    with errors_as_exit_codes(), redirect_stdout(sys.stderr):
                        last = result.go_on()
                    raise typer.Exit(_exit_code(result.result) or _exit_code(last))
                _write(result)
                raise typer.Exit(_exit_code(result))

            return self._register(command, example, exit_codes, name)

        return decorate

    def add_text(self, *, example: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
        """Add a function as a command that writes text to stdout by itself.

        Args:
            example: see `add`.

        Returns:
            a decorator, see `add`.
        """

        def decorate(function: Callable[P, None]) -> Callable[P, None]:
            @wraps(function)
            def command(*args: P.args, **kwargs: P.kwargs) -> None:
                with errors_as_exit_codes(), loading():
                    function(*args, **kwargs)

            return self._register(command, example, exit_codes=False)

        return decorate

    def _register(
        self, command: Callable[P, None], example: str, exit_codes: bool, name: str | None = None
    ) -> Callable[P, None]:
        paragraphs = (inspect.getdoc(command) or "").split("\n\n")
        return self.app.command(
            name,
            cls=Command,
            help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
            rich_help_panel=self.title,
            epilog="\n\n".join([EXIT_CODES] * exit_codes + [f"Example: {example}"]),
        )(command)


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Write errors that a user can act on to stderr and exit with their code; others pass.

    The classes of errors are imported when something was raised: their modules import much.

    Raises:
        typer.Exit: with the exit code.
    """
    try:
        yield
    except KeyboardInterrupt:
        report()
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        if code == INTERRUPTED:
            acknowledge()
        _exit(getattr(error, "problems", [str(error)]), code)


def _code_of(error: Exception) -> int | None:
    """Return the exit code for an error; None for one that is a bug."""
    from cluster.errors import ClusterError, LeaseHeldError, SourceError, WorkerStartError
    from fewshot.errors import FewShotError
    from ray_jobs.errors import DetachedError, JobError

    if isinstance(error, JobError | SourceError | WorkerStartError | LeaseHeldError | FewShotError | PermissionError):
        return WRONG
    if isinstance(error, ClusterError):
        return SOME_FAILED
    return INTERRUPTED if isinstance(error, DetachedError) else None


def _exit(problems: Sequence[str], code: int) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {sanitized(problem)}\n")
    raise typer.Exit(code)


def _write(result: JsonResult) -> None:
    """Write a result to stdout unless that is a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.write(format_result(_without_nan(result), os.environ))
        sys.stdout.flush()


def _exit_code(result: JsonResult) -> int:
    failed = not result.get("complete", True) or result.get("too_many_unreadable", False)
    needs_people = result.get("fails", False) or result.get("refused", False)
    return SOME_FAILED if failed else ALARM if needs_people else DONE


def _plain_flags(params: list[Any]) -> list[Any]:
    """Leave out the type of flags in help texts: `--follow`, not `--follow <bool>`."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


def _without_nan(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
