"""Being told to terminate while Ray is in the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Ray's start puts in a handler of SIGTERM that exits, and its shutdown the default one. The program's is put back.

    Without one, or in another thread than the main one, nothing is done.
    """
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # The signal came while Ray's handler was in place.
        before(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
