"""The port of the tests' S3 server is reserved for it."""

from __future__ import annotations

import socket

import pytest

from tests.s3.server import reserved_port


def test_a_reserved_port_is_free_only_for_its_server():
    with reserved_port() as port:
        with socket.socket() as other, pytest.raises(OSError, match="already in use"):
            other.bind(("127.0.0.1", port))
        for _ in ("first", "again"):
            with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port), timeout=60):
                pass
