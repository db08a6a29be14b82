"""`fewshot init`: look at an archive and examples, and write a commented job file for them."""

from __future__ import annotations

import errno
import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_jobs.console.progress import Reporter
    from ray_jobs.drafting.draft_arguments import DraftArguments
    from ray_jobs.drafting.suggestions import Suggestions
    from ray_jobs.drafting.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class InitResult:
    """What `fewshot init` found and wrote.

    Attributes:
        job_file: the job file.
        name: of the job.
        output: where its results will go.
        survey: of archive and examples.
        suggestions: settings that were chosen.
        warnings: sentences on what to look at before the job runs.
        notes: sentences on what was not looked at.
    """

    job_file: str
    name: str
    output: str
    survey: Survey
    suggestions: Suggestions
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the result as JSON values."""
        own = {name: value for name, value in asdict(self).items() if name != "survey"}
        return {**own, **asdict(self.survey)}


def write_draft(arguments: DraftArguments, path: Path, reporter: Reporter, *, force: bool = False) -> InitResult:
    """Look at an archive and examples, and write a job file for them.

    Args:
        arguments: what the job is drafted from.
        path: of the job file; folders on the way to it are made.
        reporter: shows progress.
        force: replace a file that is there.

    Raises:
        JobError: with every problem of the arguments and of what they name, or the file cannot be written.
        ClusterError: storage does not answer.
    """
    from ray_jobs.drafting.draft import draft_job
    from ray_jobs.drafting.findings import notes_on, warnings_about
    from ray_jobs.drafting.survey import survey_inputs
    from ray_jobs.drafting.toml_text import render
    from ray_jobs.errors import JobError
    from ray_jobs.job_file.reading import stop_if_any

    problems = _problems_with(path, force=force)
    try:
        draft = draft_job(arguments)
    except JobError as error:
        raise JobError([*problems, *error.problems]) from error
    stop_if_any(problems)
    survey = survey_inputs(draft, reporter.say)
    _write(path, render(_header(path), draft.sections(survey.archive)), force=force)
    return InitResult(
        job_file=str(path),
        name=draft.job.job.name,
        output=draft.job.job.output,
        survey=survey,
        suggestions=draft.suggestions,
        warnings=tuple(warnings_about(survey, draft.suggestions, max_error=draft.job.classifier.max_error)),
        notes=tuple(notes_on(survey)),
    )


def _problems_with(path: Path, *, force: bool) -> list[str]:
    if path.suffix != ".toml":
        return [f"--job: {path} does not end in .toml, which is how commands recognise a job file"]
    if os.path.exists(path) and not force:  # noqa: PTH110 -- also of a path that is too long
        return [f"{path} exists; choose another file with --job, or replace it with --force"]
    folder = next((parent for parent in path.parents if os.path.lexists(parent)), path.parent)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = os.strerror(errno.EACCES if folder.is_dir() else errno.EEXIST)
        return [f"cannot write {path}: {reason} ({folder})"]
    return []


def _header(path: Path) -> list[str]:
    file = shlex.quote(str(path))
    return [
        "Drafted by fewshot init. Relative paths start in the folder in which a command runs. Next:",
        f"  fewshot plan {file}      (shows what would run, and how long it takes)",
        f"  fewshot classify {file}  (runs it; run it again to resume)",
    ]


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the file; without `force`, only if there is still none."""
    from ray_jobs.errors import JobError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise JobError([f"cannot write {path}: {error.strerror} ({error.filename})"]) from error
