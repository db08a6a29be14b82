"""Ceph's object gateway on loopback: a real S3 server of one monitor, one store in memory and one gateway.

All of its files are in a given folder; its ports are free ones that stay reserved. The three processes are children
that end with this one, also when it is killed (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "openssl", "setpriv")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "fewshot-test",
    "AWS_SECRET_ACCESS_KEY": "not-much-of-a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment variables with the credentials of the server's only user."""
START_TIMEOUT_S = 120.0
"""Seconds within which the server must start."""
STOP_TIMEOUT_S = 10.0
ATTEMPTS = 5
"""Attempts to register and to start the store: if its monitor is not ready, it ends at once ("wrong fsid")."""


class ServerError(RuntimeError):
    """The server did not start. The message has the end of its log."""


@dataclass
class S3Server:
    """A running server.

    Attributes:
        endpoint: its URL, http.
        secure_endpoint: the same server over TLS.
        ca_file: the certificate that signs its TLS.
    """

    endpoint: str
    secure_endpoint: str
    ca_file: Path
    _config: Path
    _running: ExitStack
    _gateway: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the gateway, which serves the requests, on the objects stored before.

        Raises:
            ServerError: it does not start.
        """
        command = ("radosgw", "-f", "-c", self._config, "-n", "client.rgw")
        self._gateway = self._running.enter_context(_process(self._config.parent, *command))
        if not _wait_until(lambda: _responds(self.endpoint), self._gateway):
            raise ServerError(f"the S3 server does not respond:\n{_end_of(self._config.parent)}")

    def kill(self) -> None:
        """SIGKILL the gateway."""
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway.wait()


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def start_server(folder: Path) -> Iterator[S3Server]:
    """Run a server with an empty store.

    Args:
        folder: an empty one.

    Raises:
        ServerError: it does not start.
    """
    with ExitStack() as running:
        mon, http, https = (running.enter_context(reserved_port()) for _ in range(3))
        config = _write_config(folder, mon=mon, http=http, https=https)
        certificate = _write_certificate(folder)
        _start_monitor(running, config, mon)
        _start_store(running, config)
        server = S3Server(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", certificate, config, running)
        server.start()
        _create_user(config)
        yield server


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserve a port: the system gives it to no other program, also before its server starts and after it is killed.

    Two sockets may be bound to it because both allow that (SO_REUSEADDR, which all servers set) and only one listens.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def _start_monitor(running: ExitStack, config: Path, port: int) -> None:
    folder = config.parent
    identity = config.read_text().split("fsid = ")[1].split()[0]
    monitors = folder / "monmap"
    _run("monmaptool", "--create", "--fsid", identity, "--addv", "a", f"[v1:127.0.0.1:{port}]", monitors, log=folder)
    _run("ceph-mon", "-c", config, "--mkfs", "-i", "a", "--monmap", monitors, log=folder)
    running.enter_context(_process(folder, "ceph-mon", "-f", "-c", config, "-i", "a"))


def _start_store(running: ExitStack, config: Path) -> None:
    folder, identity = config.parent, str(uuid4())
    _register_store(config, identity)
    _run("ceph-osd", "-c", config, "-i", "0", "--mkfs", "--osd-uuid", identity, log=folder)
    for _ in range(ATTEMPTS):
        with ExitStack() as started:
            store = started.enter_context(_process(folder, "ceph-osd", "-f", "-c", config, "-i", "0"))
            if _wait_until(lambda: _is_up(config), store):
                running.push(started.pop_all())
                return
    raise ServerError(f"the store of the S3 server does not start:\n{_end_of(folder)}")


def _register_store(config: Path, identity: str) -> None:
    """Register a store with the monitor, which may refuse it for a moment after its start."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _run("ceph", "-c", config, "--connect-timeout", "60", "osd", "new", identity, log=config.parent)
        except ServerError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(attempt)
        else:
            return


def _is_up(config: Path) -> bool:
    status = subprocess.run(["ceph", "-c", config, "osd", "stat", "-f", "json"], capture_output=True, check=False)
    return status.returncode == 0 and json.loads(status.stdout)["num_up_osds"] == 1


def _create_user(config: Path) -> None:
    access, secret = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    keys = ("--access-key", access, "--secret-key", secret)
    user = ("user", "create", "--uid=test", "--display-name=test", *keys)
    _run("radosgw-admin", "-c", config, "-n", "client.rgw", *user, log=config.parent)


@contextmanager
def _process(folder: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process, which the kernel kills if this process dies."""
    with (folder / "log").open("ab") as log:
        arguments = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _run(*command: object, log: Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=START_TIMEOUT_S, check=False)
    with (log / "log").open("ab") as file:
        file.write(done.stdout + done.stderr)
    if done.returncode:
        raise ServerError(f"{command[0]} failed:\n{_end_of(log)}")


def _wait_until(holds: Callable[[], bool], child: subprocess.Popen[bytes]) -> bool:
    """Wait for a condition; return whether it held before the timeout and the end of the child."""
    end = time.monotonic() + START_TIMEOUT_S
    while not holds():
        if child.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _responds(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _end_of(folder: Path) -> str:
    logs = [folder / "log", *sorted((folder / "logs").glob("*"))]
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in logs if path.exists())


def _write_certificate(folder: Path) -> Path:
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out", folder / "certificate.pem")
    _run("openssl", "req", "-x509", "-days", "2", *key, *name, log=folder)
    return folder / "certificate.pem"


def _write_config(folder: Path, *, mon: int, http: int, https: int) -> Path:
    for name in ("mon", "osd", "run", "logs", "rgw"):
        (folder / name).mkdir()
    secure = f"ssl_endpoint=127.0.0.1:{https} ssl_certificate={folder}/certificate.pem ssl_private_key={folder}/key.pem"
    text = CONFIG.format(folder=folder, identity=uuid4(), mon=mon, http=http, secure=secure)
    config = folder / "ceph.conf"
    config.write_text(text)
    folder.chmod(0o700)
    return config


# Without tcp_nodelay every GET takes 45 ms. `mon data avail crit` allows a full disk under the folder.
CONFIG = """[global]
fsid = {identity}
mon host = v1:127.0.0.1:{mon}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
log file = {folder}/logs/$name.log
pid file = {folder}/run/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon max pg per osd = 2000
[mon.a]
mon data = {folder}/mon
mon addr = 127.0.0.1:{mon}
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd max object name len = 256
osd memory target = 939524096
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{http} tcp_nodelay=1 {secure}
rgw enable usage log = false
rgw cache enabled = true
"""
