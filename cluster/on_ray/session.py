"""A connection to Ray: to one that is running, or to one of our own that lives as long as the session."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from cluster.errors import ClusterError

logger = logging.getLogger(__name__)

# One token for all Rays that this process starts: Ray reads it once and keeps it.
_TOKEN = secrets.token_hex(32)
_KNOCK_S = 10.0


class RaySession:
    """Connects when entered. What it started it stops; what was running before stays running.

    Args:
        address: None starts Ray on this machine, unless this process is connected to one already; "auto",
            `host:port` or `ray://host:port` connects to one that is running.
        num_cpus: logical CPUs of a Ray that is started here; None counts the machine's.
        num_gpus: GPUs of a Ray that is started here; None counts the machine's.
        object_store_bytes: shared memory of a Ray that is started here. Parts never travel through it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        object_store_bytes: int = 256 * 2**20,
    ) -> None:
        self._address = address
        self._own: dict[str, Any] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "object_store_memory": object_store_bytes,
        }
        self._cleanup = ExitStack()
        self.is_own = False

    @property
    def where(self) -> str:
        """What the user knows this Ray as."""
        return "Ray on this machine" if self._address is None else f"Ray at {self._address}"

    def __enter__(self) -> Self:
        """Start Ray or connect to it.

        Raises:
            ClusterError: no Ray answers at the address, or none can be started here.
        """
        if self._address is None:
            _secure_environment()
        import ray

        if ray.is_initialized():
            return self
        with ExitStack() as cleanup:
            if self._address is None:
                self._start(cleanup)
            else:
                self._connect(self._address)
            cleanup.callback(_shut_down)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop or disconnect, if this session started or connected."""
        self._cleanup.close()
        self.is_own = False

    def _start(self, cleanup: ExitStack) -> None:
        import ray

        folder = tempfile.mkdtemp(prefix="ray-")  # Short: Ray puts sockets there, whose paths must fit in 107 bytes.
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            with preserved_sigterm_handler():
                ray.init("local", include_dashboard=False, _temp_dir=folder, **_quiet(), **self._own)
        except Exception as error:  # A node that is not there after half a minute is a plain Exception of Ray's.
            _shut_down()
            raise ClusterError(
                f"could not start Ray on this machine: {error} A machine that is busy with something else may be too "
                'slow for it: run again, or without Ray ([cluster] mode = "process").'
            ) from error
        self.is_own = True

    def _connect(self, address: str) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            _knock(address)
            with preserved_sigterm_handler():
                ray.init(address, **_quiet())
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise ClusterError(
                f"could not connect to Ray at {address!r}: {error}. Expected the address of a running Ray of this "
                "version, and the same RAY_AUTH_MODE (and token) here as there."
            ) from error


@contextmanager
def preserved_sigterm_handler() -> Iterator[None]:
    """Put the program's SIGTERM handler back after the block.

    Ray's start installs a handler that exits, and its shutdown the default one. Nothing is done where the program has
    no handler, or in another thread than the main one.
    """
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # The signal came while Ray's handler was installed.
        before(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _secure_environment() -> None:
    """Ray listens on all interfaces and runs what it is sent: without a token, that is anybody's code.

    A token of our own keeps Ray from leaving one in the user's home. An explicit choice of the user stays. The mode is
    read when Ray is imported; one that was imported before, without a mode, turns tokens on by itself.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray itself would try for several minutes."""
    target = urlsplit(address if "://" in address else f"//{address}")
    if target.hostname and target.port:
        socket.create_connection((target.hostname, target.port), timeout=_KNOCK_S).close()


def _shut_down() -> None:
    import ray

    with preserved_sigterm_handler():
        ray.shutdown()


def _quiet() -> dict[str, Any]:
    return {"logging_level": logging.WARNING, "log_to_driver": False}
