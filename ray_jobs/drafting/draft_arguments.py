"""The arguments that stand for a job file: an archive, examples, and where results go."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from cluster.records import FORMS, archive_folder
from cluster.records.containers import has_wildcards
from cluster.secrets import has_password
from fewshot.data.example import is_path
from ray_jobs.job_file.reading import NO_PASSWORDS
from ray_jobs.job_file.sections import MAX_NAME, Job, JobSection
from ray_jobs.output.new_files import lies_inside

FALLBACK_NAME = "archive"
OUTPUTS = "runs"
"""The folder of default outputs."""
_SUFFIXES = tuple(suffix for form in FORMS for suffix in form.suffixes)
"""What is left out of the name of an archive's file."""
_ASSIGNMENT = re.compile(rf"\b(?:set )?((?:{'|'.join(each.name for each in fields(Job))})\.\w+) = \"?([\w.-]+)\"?")
"""A key of the job file with its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftArguments:
    """What a job is drafted from.

    Attributes:
        archive: a path or URL.
        examples: a path or URL.
        output: a path or URL; None is `runs/<name>`, or a place beside the inputs where that lies inside one of them.
        name: of the job; None is derived from the archive.
        overrides: "section.key=value", as in `read_job`.
        examples_option: what messages call `examples`.
        set_option: what sets a key of the job file in messages; None leaves keys as a job file has them.
    """

    archive: str
    examples: str
    output: str | None = None
    name: str | None = None
    overrides: Sequence[str] = ()
    examples_option: str = "EXAMPLES"
    set_option: str | None = "--set"

    @property
    def job_name(self) -> str:
        """The name of the job."""
        return default_name(self.archive) if self.name is None else self.name

    @property
    def job_output(self) -> str:
        """Where results go."""
        return default_output(self.job_name, (self.archive, self.examples)) if self.output is None else self.output

    def problems(self) -> list[str]:
        """Return what is wrong with the arguments by themselves, one line each; nothing is looked up."""
        inputs = {"ARCHIVE": self.archive, self.examples_option: self.examples}
        places = inputs if self.output is None else inputs | {"--output": self.output}
        found = [f"{argument}: {reason}" for argument, place in places.items() if (reason := _problem_with(place))]
        found += [
            f"{argument}: {place} is a job file; expected images, or a table of examples"
            for argument, place in inputs.items()
            if is_job_file(place)
        ]
        if self.name is not None:
            try:
                JobSection(name=self.name, output=OUTPUTS)
            except ValueError as error:
                found.append(f"--name: {str(error).removeprefix('name: ')}")
        return found

    def in_their_terms(self, problem: str) -> str:
        """Name the argument, where a problem names the key of the job file that the argument fills or may set."""
        keys = {
            "[archive] uri": "ARCHIVE",
            "[support] uri": self.examples_option,
            "[job] output": "--output",
        }
        if self.set_option is not None:
            problem = _ASSIGNMENT.sub(rf"{self.set_option} \1=\2", problem)
        key, separator, rest = problem.partition(": ")
        return f"{keys[key]}{separator}{rest}" if key in keys else problem


def is_job_file(argument: str) -> bool:
    """Return whether an argument names a job file: the suffix decides, unless it is a folder."""
    return argument.endswith(".toml") and "://" not in argument and not os.path.isdir(argument)  # noqa: PTH112


def default_name(archive: str) -> str:
    """Return a job's name for an archive: the last part of its path, as far as a name may hold it."""
    scheme, separator, path = archive.rpartition("://")
    if not separator or scheme in ("file", "local"):
        path = str(_local(archive))
    elif scheme in ("http", "https"):
        path = path.partition("?")[0]
    parts = [part for part in posixpath.normpath(path).split("/") if part and not has_wildcards(part)]
    last = unicodedata.normalize("NFC", parts[-1]) if parts else ""
    last = next((last[: -len(suffix)] for suffix in _SUFFIXES if last.lower().endswith(suffix)), last)
    kept = "".join(char if char.isalnum() or char in "_." else "-" for char in last)
    return re.sub("-+", "-", kept).strip("-.")[:MAX_NAME] or FALLBACK_NAME


def default_output(name: str, inputs: Sequence[str]) -> str:
    """Return an output outside all inputs: `runs/<name>`, or else `runs/<name>` beside the input that contains it.

    Args:
        name: of the job.
        inputs: paths or URLs.
    """
    output = f"{OUTPUTS}/{name}"
    places = [place if "://" in place else archive_folder(place) for place in inputs]
    for _ in places:
        around = next((place for place in places if lies_inside(output, place)), None)
        if around is None:
            break
        output = str(_local(around).resolve().parent / OUTPUTS / name)
    return output


def _local(uri: str) -> Path:
    return Path(os.path.expanduser(uri.rpartition("://")[2])).absolute()  # noqa: PTH111 -- never raises


def _problem_with(place: str) -> str | None:
    if not place.strip():
        return "it is empty; expected a path or a URL"
    if not is_path(place):
        return "a job file cannot hold this path: it is no Unicode text, or too long; rename it, or link to it"
    if place.startswith("~") and os.path.expanduser(place).startswith("~"):  # noqa: PTH111
        return f"there is no home folder {place.partition('/')[0]}; write ./{place} if this is a name"
    return NO_PASSWORDS if has_password(place) else None
