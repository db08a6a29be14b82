"""What happens on a worker, whichever executor owns it: start once, then run units and commit their parts."""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path
from typing import Any

from cluster.errors import StorageError
from cluster.execution.events import UnitDone, UnitFailed
from cluster.execution.step import Step, Unit
from cluster.secrets import redacted
from cluster.storage.retry import Retry
from cluster.storage.store import Ledger

logger = logging.getLogger(__name__)

UNIT_RETRY = Retry(first_delay_s=1.0, max_delay_s=30.0)
_HALF = 1000


def run_unit(
    step: Step, state: Any, unit: Unit, ledger: Ledger, *, max_attempts: int, retry: Retry = UNIT_RETRY
) -> UnitDone | UnitFailed:
    """Compute one unit and commit its part.

    A StorageError is tried again, `max_attempts` times in all, with the delays of `retry`. Any other exception would
    be raised again, so it is recorded at once. This is the process boundary: no exception of a step gets past it.

    Returns:
        What became of the unit: never the part itself.
    """
    started = time.monotonic()
    for attempt in range(1, max_attempts + 1):
        try:
            part = step.run(state, unit.payload)
            ledger.commit(unit.path, part.data)
        except StorageError as error:
            failure = UnitFailed(unit.path, unit.weight, describe(error), attempt)
            if attempt < max_attempts:
                retry.sleep(retry.delay_s(attempt))
        except Exception as error:  # noqa: BLE001 -- the process boundary, see above
            logger.warning("unit failed path=%s\n%s", unit.path, _told(traceback.format_exc()))
            return UnitFailed(unit.path, unit.weight, describe(error), attempt)
        else:
            return UnitDone(unit.path, unit.weight, dict(part.summary), time.monotonic() - started)
    return failure


def describe(error: BaseException) -> str:
    """An exception on one line, without secrets: its type, its message, and the place in the code that raised it.

    A message may be anything. Of one that is too long, the beginning and the end are told; what is no Unicode is
    escaped, as the line is to be stored.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 -- whatever a library's exception does when it is asked
        message = "it has no message"
    line = " ".join(_told(f"{type(error).__name__}: {message}").split())
    if len(line) > 2 * _HALF:
        line = f"{line[:_HALF]} … {line[-_HALF:]}"
    return f"{line}{place}"


def _told(text: str) -> str:
    """Without secrets, and with escapes for what is no Unicode: logs and tables take nothing else."""
    return redacted(text).encode(errors="backslashreplace").decode()
