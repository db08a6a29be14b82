"""What stops a job before it starts."""

from __future__ import annotations

from collections.abc import Sequence


class JobError(Exception):
    """The job file or the set-up is wrong. Nothing has run; exit code 2.

    Attributes:
        problems: every problem found, one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
