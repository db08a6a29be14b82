"""A connection to a running Ray, or to one that is started for the session and stopped with it."""

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
from typing import Self
from urllib.parse import urlsplit

from cluster.errors import ClusterError
from cluster.on_ray.start_logs import last_log_lines

logger = logging.getLogger(__name__)

# One token for every Ray that this process starts: Ray reads it once and keeps it.
_TOKEN = secrets.token_hex(32)
_PROBE_TIMEOUT_S = 10.0
LOOPBACK = "127.0.0.1"
"""Address of a Ray that is started here. Its servers bind to the address of their node if that is this one, and to all
interfaces otherwise."""


class RaySession:
    """Connects when entered. It stops a Ray that it started; one that was running before keeps running.

    Args:
        address: None starts Ray on this machine, unless this process is connected to one already; "auto",
            `host:port` or `ray://host:port` connects to one that is running.
        num_cpus: logical CPUs of a Ray that is started here; None is the number of the machine.
        num_gpus: GPUs of a Ray that is started here; None is the number of the machine.
        object_store_bytes: shared memory of a Ray that is started here. Parts never pass through it.

    Attributes:
        is_own: whether this session started the Ray that it is connected to.
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
        self._resources: dict[str, int | None] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "object_store_memory": object_store_bytes,
        }
        self._cleanup = ExitStack()
        self.is_own = False

    @property
    def where(self) -> str:
        """A name of this Ray for messages."""
        return "Ray on this machine" if self._address is None else f"Ray at {self._address}"

    def __enter__(self) -> Self:
        """Start Ray or connect to it.

        Raises:
            ClusterError: no Ray responds at the address, or none can be started here.
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
        """Stop the Ray that this session started, or disconnect from the one it connected to."""
        self._cleanup.close()
        self.is_own = False

    def _start(self, cleanup: ExitStack) -> None:
        import ray

        # A short path: those of the sockets in it are limited to 107 bytes. Ray opens its own folder to all users (mode
        # 0777), so it lies in one that only this user may enter.
        private = tempfile.mkdtemp(prefix="ray-")
        cleanup.callback(shutil.rmtree, private, ignore_errors=True)
        folder = f"{private}/s"
        options = {"include_dashboard": False, "_temp_dir": folder, "_node_ip_address": LOOPBACK}
        try:
            with preserved_sigterm_handler(), _kept_loopback_address():
                ray.init("local", **options, **_log_options(), **self._resources)
        except BaseException as error:  # Ray raises a plain Exception if its node is not up after half a minute.
            _shut_down()
            if not isinstance(error, Exception):  # An interrupt.
                raise
            raise ClusterError(
                f"could not start Ray on this machine: {error} The machine may be too busy: run again, or run without "
                f'Ray ([cluster] mode = "process").{last_log_lines(folder)}'
            ) from error
        self.is_own = True

    def _connect(self, address: str) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            _probe(address)
            with preserved_sigterm_handler():
                ray.init(address, **_log_options())
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise ClusterError(
                f"could not connect to Ray at {address!r}: {error}. Expected the address of a running Ray with "
                "the version installed here, and the same RAY_AUTH_MODE and token on both sides."
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


@contextmanager
def _kept_loopback_address() -> Iterator[None]:
    """Keep Ray from replacing a loopback address by one of the network while it starts.

    On Linux `ray.init` rewrites `127.0.0.1` to the address of the host, and then all servers of the node bind to all
    interfaces. There is no option against it (Ray 2.60). With a Ray that has renamed the function, the address is
    rewritten as before, and the token alone protects the servers.
    """
    from ray._private import services

    rewrite = getattr(services, "resolve_ip_for_localhost", None)
    if rewrite is None:
        yield
        return
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = rewrite


def _secure_environment() -> None:
    """Turn on token authentication: Ray runs the code that it receives, from any process on this machine.

    A token from here keeps Ray from writing one to the user's home. Variables that the user has set stay. Ray reads the
    mode when it is imported; if it was imported before, without a mode, it turns tokens on itself.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_TOKEN", _TOKEN)
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _probe(address: str) -> None:
    """Raise OSError at once if the port is closed: Ray itself would retry for several minutes."""
    target = urlsplit(address if "://" in address else f"//{address}")
    if target.hostname and target.port:
        socket.create_connection((target.hostname, target.port), timeout=_PROBE_TIMEOUT_S).close()


def _shut_down() -> None:
    import ray

    with preserved_sigterm_handler():
        ray.shutdown()


def _log_options() -> dict[str, int]:
    return {"logging_level": logging.WARNING, "log_to_driver": False}
