"""Keep a library's warnings out of the log, from many threads at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class SilencedModule:
    """Ignores the warnings of one library while at least one thread is inside.

    `warnings.catch_warnings` swaps a list that all threads share: two threads that enter and leave it interleaved
    let warnings escape and leave the wrong filters behind. Here the first thread in swaps, the last one out restores.

    Args:
        pattern: regular expression for the start of the module names to silence.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=self._pattern)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._restore.close()


pillow_silenced = SilencedModule(r"PIL\.")
