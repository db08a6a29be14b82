"""The work of a worker, with any executor: run units and commit their parts."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from cluster.errors import StorageError, WorkerBrokenError
from cluster.execution.events import UnitDone, UnitFailed
from cluster.execution.step import Step, Unit
from cluster.secrets import redacted
from cluster.storage.retry import Retry
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)

UNIT_RETRY = Retry(first_delay_s=1.0, max_delay_s=30.0)
_HALF_LENGTH = 1000
WRITING = "writing"
"""The stage of a worker that commits parts, in `UnitDone.busy_s`."""


def run_unit(
    step: Step, state: Any, unit: Unit, ledger: Ledger, *, max_attempts: int, retry: Retry = UNIT_RETRY
) -> UnitDone | UnitFailed:
    """Compute one unit and commit its part.

    After a StorageError the unit runs again, `max_attempts` times in all, with the delays of `retry`. Any other
    exception would be raised again, so it is recorded at once. This is the process boundary: no other `Exception` of a
    step passes it than WorkerBrokenError.

    Returns:
        The outcome of the unit, without the part itself.

    Raises:
        WorkerBrokenError: this process can do no more work.
    """
    started = time.monotonic()
    for attempt in range(1, max_attempts + 1):
        try:
            part = step.run(state, unit.payload)
            computed = time.monotonic()
            ledger.commit(unit.path, part.data)
        except StorageError as error:
            failure = UnitFailed(unit.path, unit.weight, describe(error), attempt)
            if attempt < max_attempts:
                retry.sleep(retry.delay_s(attempt))
        except WorkerBrokenError:
            raise
        except Exception as error:  # noqa: BLE001 -- the process boundary, see above
            logger.warning("unit failed path=%s\n%s", unit.path, _printable(traceback.format_exc()))
            return UnitFailed(unit.path, unit.weight, describe(error), attempt)
        else:
            now = time.monotonic()
            busy_s = Counter(part.busy_s)
            busy_s.update({WRITING: now - computed})
            return UnitDone(unit.path, unit.weight, dict(part.summary), now - started, dict(busy_s))
    return failure


def describe(error: BaseException) -> str:
    """Return an exception on one line, without secrets: its type, its message, and the line of code that raised it.

    A long message is reduced to its beginning and its end, 1,000 characters each. Characters that UTF-8 cannot encode
    are escaped, because the line is stored.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 -- a library's exception may fail in any way
        message = "(no message)"
    line = " ".join(_printable(f"{type(error).__name__}: {message}").split())
    if len(line) > 2 * _HALF_LENGTH:
        line = f"{line[:_HALF_LENGTH]} … {line[-_HALF_LENGTH:]}"
    return f"{line}{place}"


def _printable(text: str) -> str:
    """Return the text without secrets, with escapes for characters that logs and tables cannot encode."""
    return redacted(text).encode(errors="backslashreplace").decode()
