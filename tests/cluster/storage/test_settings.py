from __future__ import annotations

import socket
import threading

import pytest

from cluster import Storage, StorageError


@pytest.mark.parametrize(
    "endpoint", ["http://h:port", "http:// h", "http://:9000", "http://h:99999", "ftp://h", "http://h/x"]
)
def test_an_invalid_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint: expected a URL such as https://host:9000"):
        Storage(endpoint=endpoint)


def test_a_server_without_http_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"-ERR unknown command\r\n")

        thread = threading.Thread(target=respond)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(StorageError, match=f"no S3 server responds at {endpoint}: -ERR unknown command. Check"):
            Storage(endpoint=endpoint).check_endpoint()
        thread.join()
