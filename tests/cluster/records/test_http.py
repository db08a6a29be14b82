"""Archives on plain web servers, which tell less than others."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cluster.records.archives import contents_of, tar_bytes, write_folder


class Handler(SimpleHTTPRequestHandler):
    """Knows no ranges."""

    def log_message(self, *args):
        pass


class Terse(Handler):
    """Tells no sizes, either."""

    def send_header(self, keyword, value):
        if keyword.lower() != "content-length":
            super().send_header(keyword, value)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that has read enough is no news."""


@pytest.fixture(params=[Handler, Terse])
def url(request, tmp_path):
    with Server(("127.0.0.1", 0), partial(request.param, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_images_are_read_up_to_the_largest_size(url, tmp_path):
    write_folder(tmp_path, {"photos/a.jpg": b"1234", "photos/b.jpg": b"12345"})
    contents = contents_of(f"{url}/photos/", max_bytes=4)
    assert contents == {"a.jpg": b"1234", "b.jpg": "too large: more than 4 bytes"}


def test_a_tar_that_cannot_be_read_in_pieces_says_why(url, tmp_path):
    (tmp_path / "0.tar").write_bytes(tar_bytes([("a.jpg", bytes(9 << 20))]))
    (reason,) = contents_of(f"{url}/0.tar").values()
    assert any(why in reason for why in ("does not support range requests", "does not report its size"))
