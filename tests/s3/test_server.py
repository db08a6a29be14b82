"""What the tests' S3 server needs, and takes from nobody."""

from __future__ import annotations

import socket

import pytest

from tests.s3.server import kept_port


def test_a_port_that_is_kept_is_for_its_server_and_for_nobody_else():
    with kept_port() as port:
        with socket.socket() as stranger, pytest.raises(OSError, match="already in use"):
            stranger.bind(("127.0.0.1", port))
        for _ in ("first", "again"):
            with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), timeout=60):
                pass
