"""What stops a job, beside the errors of the two packages it is made of."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.errors import ClusterError
from cluster.secrets import redacted


class JobError(Exception):
    """The job file or the set-up is wrong. Nothing has run; exit code 2.

    Attributes:
        problems: every problem found, one line each, with secrets redacted.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(map(redacted, problems))
        super().__init__("\n".join(self.problems))


class DamagedError(ClusterError, RuntimeError):
    """Something in the output was not what was written there. It was removed: run again to make it anew."""


class DetachedError(Exception):
    """The user stopped watching a job that goes on elsewhere. Its text says how to watch again."""
