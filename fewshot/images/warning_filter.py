"""Ignore the warnings of a library, safely from many threads at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class ModuleWarningFilter:
    """Ignores the warnings of one library while at least one thread is in the context.

    `warnings.catch_warnings` replaces a list that all threads share: two threads that enter and leave it interleaved
    let warnings escape and leave the wrong filters behind. Here the first thread to enter replaces the list, and the
    last one to leave restores it.

    Args:
        pattern: regular expression for the start of the module names whose warnings are ignored.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._lock = threading.Lock()
        self._entered = 0
        self._restore = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter the context."""
        with self._lock:
            self._entered += 1
            if self._entered == 1:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=self._pattern)
        try:
            yield
        finally:
            with self._lock:
                self._entered -= 1
                if self._entered == 0:
                    self._restore.close()


ignore_pillow_warnings = ModuleWarningFilter(r"PIL\.")
