"""The job file that `classify` keeps beside its results when it was started without one.

The copy names a digest of its own content, so that a copy can be replaced by the next run's, and a file that was
written or edited by hand cannot.
"""

from __future__ import annotations

import re
import shlex
from contextlib import suppress

from cluster import StorageError, Store, fingerprint
from ray_jobs.drafting.draft import Draft
from ray_jobs.drafting.toml_text import render, without_queries
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import parse_job, resolved
from ray_jobs.job_file.sections import Job
from ray_jobs.output.layout import JOB

_MARK = re.compile(r"# Written by fewshot classify, content ([0-9a-f]{16})\.[^\n]*\n")


def keep_job_file(draft: Draft) -> str:
    """Write the job file of a draft as `job.toml` into its output.

    A file that is there stays if it reads as the same job.

    Returns:
        Where it lies.

    Raises:
        JobError: the output cannot be written to, or another job file is there, and `classify` did not write it, or it
            was edited since.
        StorageError: storage does not answer.
    """
    store = Store(draft.job.job.output, storage=draft.job.storage.resolve())
    text, known = job_copy(draft), None
    with suppress(FileNotFoundError):
        known = store.get(JOB).decode("utf-8", "replace")
    if known is not None and not is_job_copy(known):
        if not _is_same_job(known, draft.job):
            raise JobError([_refusal(store.url(JOB))])
    elif known != text:
        try:
            store.put(JOB, text.encode())
        except (StorageError, PermissionError) as error:
            raise JobError([f"--output: {error}"]) from error
    return store.url(JOB)


def job_copy(draft: Draft) -> str:
    """Return the text of the copy. It has no query strings of URLs, which can be signatures."""
    path = shlex.quote(f"{draft.job.job.output.rstrip('/')}/{JOB}")
    header = (
        "Relative paths start in the folder in which a command runs.",
        f"To resume the job, or to run it again when images or examples were added: fewshot classify {path}",
    )
    body = render(header, without_queries(draft.sections()))
    return (
        f"# Written by fewshot classify, content {fingerprint(body)}. Replaced by its next run unless edited.\n{body}"
    )


def is_job_copy(text: str) -> bool:
    """Return whether a text is a copy as it was written."""
    mark = _MARK.match(text)
    return mark is not None and mark[1] == fingerprint(text[mark.end() :])


def _is_same_job(text: str, job: Job) -> bool:
    try:
        known, problems = parse_job(text, JOB)
    except JobError:
        return False
    return not problems and resolved(known) == resolved(job)


def _refusal(url: str) -> str:
    return (
        f"{url} is another job file, written or edited by hand. Run it (fewshot classify {url}), move it away, or "
        "choose another output with --output"
    )
