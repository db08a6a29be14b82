"""What the server of review refuses, and what it never shows as markup or opens as a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from ray_jobs.review.request_guard import MAX_BODY_BYTES
from ray_jobs.review.web_app import build_app
from tests.ray_jobs.review.reviewed_run import (
    HOST,
    PORT,
    TOKEN,
    browser,
    decision,
    open_session,
    png,
    shown,
    written_run,
)
from tests.ray_jobs.written_run import WrittenRun

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    return written_run(tmp_path, 12)


@pytest.fixture
def client(run: WrittenRun) -> TestClient:
    return browser(open_session(run))


def stranger(run: WrittenRun) -> TestClient:
    """A client without the cookie."""
    app = build_app(open_session(run), port=PORT, token=TOKEN)
    return TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)


PATHS = [
    "/",
    "/screens",
    "/screen?kind=least",
    "/labels",
    "/static/review.js",
    "/picture/x/1",
    "/large/x/1",
    "/nearest/x/1",
    "/example/x/1",
]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(run: WrittenRun, path: str) -> None:
    for client in (stranger(run), stranger(run)):
        answer = client.get(path)
        assert answer.status_code == 403
        assert "open the URL" in answer.text
        client.cookies.set(f"fewshot-review-{PORT}", "another")
        assert client.get(path).status_code == 403


def test_a_wrong_token_is_refused_and_the_right_one_leaves_the_address(run: WrittenRun) -> None:
    client = stranger(run)
    assert client.get("/enter/wrong").status_code == 403
    assert client.get("/enter/").status_code == 403
    assert client.get(f"/?token={TOKEN}").status_code == 403
    cookie = client.get(f"/enter/{TOKEN}").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/").status_code == 200


def test_the_token_is_exchanged_behind_a_link_on_another_site(run: WrittenRun) -> None:
    answer = stranger(run).get(f"/enter/{TOKEN}", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/"' in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:9", f"evil.example:{PORT}", ""])
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 421


def test_localhost_is_this_machine(client: TestClient) -> None:
    assert client.get("/", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:9", ""])
@pytest.mark.parametrize("path", ["/decide", "/undo"])
def test_a_foreign_origin_changes_nothing(run: WrittenRun, client: TestClient, path: str, origin: str) -> None:
    sent = decision(client.get("/screen?kind=least").text)
    assert client.post(path, json=sent, headers={"origin": origin}).status_code == 403
    assert open_session(run).archive.ledger.events() == []


def test_a_request_without_origin_changes_nothing(client: TestClient) -> None:
    del client.headers["origin"]
    assert client.post("/decide", json={}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_gets_nothing(client: TestClient, site: str) -> None:
    assert client.get("/screens", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO"])
@pytest.mark.parametrize("path", ["/", "/decide", "/undo", "/screen?kind=least"])
def test_other_methods_are_refused(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("POST", "/labels"), ("GET", "/decide"), ("GET", "/undo")])
def test_only_two_paths_take_posts(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405


def test_long_bodies_are_refused_whatever_their_header_says(run: WrittenRun, client: TestClient) -> None:
    body = b"{" + b" " * MAX_BODY_BYTES + b"}"
    json = {"content-type": "application/json"}
    assert client.post("/decide", content=body, headers=json).status_code == 413

    def in_pieces() -> object:
        yield from (body[start : start + 1000] for start in range(0, len(body), 1000))

    assert client.post("/decide", content=in_pieces(), headers=json).status_code == 413
    assert open_session(run).archive.ledger.events() == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_forms_of_other_sites_are_refused(client: TestClient, kind: str) -> None:
    assert client.post("/decide", content=b"{}", headers={"content-type": kind}).status_code == 415


def test_a_long_url_is_refused(client: TestClient) -> None:
    assert client.get(f"/screen?kind=class&name={'a' * 5000}").status_code == 414


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b"[" * 100_000,
        b'{"screen": "x", "answers": []}',
        b'{"screen": "%s", "kind": "class", "name": "", "after": "", "index": "", "answers": [1]}' % (b"0" * 32),
        b'{"screen": "%s", "kind": "other", "name": "", "after": "", "index": "", "answers": []}' % (b"0" * 32),
    ],
)
def test_what_is_no_decision_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/decide", content=body, headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/undo", content=body, headers={"content-type": "application/json"}).status_code == 400


@pytest.mark.parametrize(
    "answer",
    [
        {"id": 10**30, "answer": "unknown"},
        {"id": -1, "answer": "unknown"},
        {"id": True, "answer": "unknown"},
        {"id": "1", "answer": "unknown"},
        {"id": 1, "answer": "nonsense"},
        {"id": 1, "answer": "label"},
        {"id": 1, "answer": "label", "label": ""},
        {"id": 1, "answer": "label", "label": "a\nb"},
        {"id": 1, "answer": "label", "label": "a" * 201},
        {"id": 1, "answer": "unknown", "label": "a"},
    ],
)
def test_wrong_answers_write_nothing(run: WrittenRun, client: TestClient, answer: dict[str, object]) -> None:
    page = client.get("/screen?kind=least").text
    assert client.post("/decide", json=decision(page, [answer])).status_code == 400
    assert open_session(run).archive.ledger.events() == []


@pytest.mark.parametrize("after", ["x", "1", "1:", ":1", "nan:1", "inf:1", "1:1:1", "1:-1", f"1:{10**30}"])
def test_wrong_places_are_refused(client: TestClient, after: str) -> None:
    assert client.get("/screen", params={"kind": "least", "after": after}).status_code == 400


HOSTILE = [
    "../../../etc/passwd",
    "%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cetc",
    "/etc/passwd",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "path", ["/static/{}", "/picture/{}/1", "/picture/{}", "/large/{}/1", "/screen?kind=list&name={}"]
)
def test_names_in_addresses_are_never_opened_as_paths(client: TestClient, name: str, path: str) -> None:
    answer = client.get(path.format(name))
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    names = [f"{SCRIPT}.png", '" onload="alert(1).png', "a' b&c.png", "right\u202eto left.png"]
    run = written_run(tmp_path, {name.replace("/", ""): png((9, 9, 9)) for name in names}, classes=(SCRIPT, '">x'))
    session = open_session(run, by=f"{SCRIPT}")
    client = browser(session)
    for path in ("/screens", "/screen?kind=least", "/screen?kind=large"):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert 'onload="alert' not in page
        assert page.count("<script") == 1
    page = client.get("/screen", params={"kind": "class", "name": SCRIPT}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert len(shown(page)) == 2


def test_every_response_has_the_headers_of_protection(run: WrittenRun, client: TestClient) -> None:
    answers = [client.get(path) for path in ("/", "/screen?kind=least", "/static/review.css", "/nowhere", "/labels")]
    for answer in [*answers, stranger(run).get("/"), client.post("/decide", json={}), client.request("PUT", "/")]:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


def test_pages_have_no_script_and_style_of_their_own(client: TestClient) -> None:
    for path in ("/screens", "/screen?kind=least"):
        page = client.get(path).text
        assert "<style" not in page
        assert "style=" not in page
        assert 'src="http' not in page
        assert 'href="http' not in page


def test_a_second_host_is_refused(client: TestClient) -> None:
    assert client.get("/screens", headers=[("host", HOST), ("host", "evil.example")]).status_code == 421


def test_answers_of_more_than_two_screens_are_refused(run: WrittenRun) -> None:
    session = open_session(run, size=4)
    client = browser(session)
    page = client.get("/screen?kind=least").text
    answers = [{"id": number, "answer": "unknown"} for number in range(1, 10)]
    assert client.post("/decide", json=decision(page, answers)).status_code == 400
    assert client.post("/decide", json=decision(page, answers[:8])).json() == {"written": 8}
