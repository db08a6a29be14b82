"""Errors of a GPU: after one, CUDA refuses every call of the process, so that no later unit can succeed in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import WorkerBrokenError

CUDA_ERROR = "CUDA error"
"""How messages of such errors begin, in all versions of torch; an error for lack of memory has another message."""


@contextmanager
def gpu_errors() -> Iterator[None]:
    """Raise WorkerBrokenError instead of an error of the GPU, so that another process takes over the units."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(CUDA_ERROR):
            raise WorkerBrokenError(
                f"{error} Another worker takes over its units; in one process, run again."
            ) from error
        raise
