"""Archives on plain web servers, which tell less than others."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster import SourceError
from cluster.records import open_source
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


def test_a_list_names_files_beside_it_and_of_no_other_server(url, tmp_path):
    rows = ["a.jpg", "../b.jpg", "../../../c.jpg", f"{url}/b.jpg", "http://127.0.0.1:1/a.jpg", "/etc/hostname"]
    write_folder(tmp_path, {"sets/a.jpg": b"1", "b.jpg": b"2", "c.jpg": b"3"})
    write_folder(tmp_path, {"sets/list.txt": "\n".join(rows).encode()})
    with suppress(SourceError):  # A server that does not report sizes.
        contents = list(contents_of(f"{url}/sets/list.txt").values())
        assert contents[:4] == [b"1", b"2", b"3", b"2"]
        assert "http URLs are not followed" in str(contents[4])
        assert contents[5] == "a local path in a table that is not local"
        return
    with pytest.raises(SourceError, match="does not report its size"):
        open_source(f"{url}/sets/list.txt")
