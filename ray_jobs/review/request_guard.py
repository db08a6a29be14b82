"""What stands before the application: which requests it answers, and the headers of all its responses.

A page of another site can make the browser send requests to a server on this machine. So a request must name this
server as its host, carry the cookie that only the printed URL gives, and, where it changes anything, come from a page
of this server. The server listens on the loopback interface alone.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
"""Names of this machine that a browser may use."""
ENTRY = "/enter/"
"""Path of the printed URL, before the token. (Console and logs do not show queries of URLs.)"""
POSTS = frozenset({"/decide", "/undo"})
MAX_BODY_BYTES = 256 << 10
MAX_URL_BYTES = 4096
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ENTRY = """<!doctype html><html lang="en"><meta charset="utf-8"><title>fewshot review</title>
<link rel="icon" type="image/svg+xml" href="/static/icon.svg">
<meta http-equiv="refresh" content="0; url=/"><p><a href="/">Begin</a></p></html>"""


class RequestGuard:
    """An ASGI application that answers for another one what that must not see.

    Args:
        app: the application.
        port: that the server listens on.
        token: that the printed URL has, and the cookie from then on.
    """

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self._app, self._token = app, token
        self._cookie = f"fewshot-review-{port}"
        self._hosts = frozenset(f"{host}:{port}" for host in HOSTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._entry(scope) or self._without_cookie(scope)
        if answer is None and scope["method"] == "POST":
            body = await _bounded_body(receive)
            if body is None:
                answer = _text(413, f"expected at most {MAX_BODY_BYTES} bytes")
            else:
                receive = _replay(body)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_URL_BYTES:
            return _text(414, "the URL is too long")
        if method not in ("GET", "POST") or (method == "POST") != (path in POSTS):
            return _text(405, "expected GET, or POST of a decision")
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            known = ", ".join(sorted(self._hosts))
            return _text(421, f"this server is {known}; through a tunnel, use the same port on both sides")
        if method == "POST":
            origins = headers.getlist("origin")
            if origins not in [[f"http://{host}"] for host in self._hosts]:
                return _text(403, "expected a request of a page of this server")
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return _text(415, "expected JSON")
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                return _text(413, f"expected at most {MAX_BODY_BYTES} bytes")
        if not path.startswith(ENTRY) and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return _text(403, "expected a request of a page of this server")
        return None

    def _entry(self, scope: Scope) -> Response | None:
        """Exchange the token of the printed URL for the cookie.

        A page, not a redirect: behind a link on another site (a terminal in a browser), a redirect would come without
        the cookie.
        """
        if not scope["path"].startswith(ENTRY):
            return None
        if not self._is_token(scope["path"].removeprefix(ENTRY)):
            return _text(403, "the token is wrong: open the URL that fewshot review printed last")
        response = HTMLResponse(_ENTRY)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response

    def _without_cookie(self, scope: Scope) -> Response | None:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load("; ".join(Headers(scope=scope).getlist("cookie")))
        except CookieError:
            cookies.clear()
        given = cookies.get(self._cookie)
        if given is not None and self._is_token(given.value):
            return None
        return _text(403, "open the URL that fewshot review printed last, with its token")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


async def _bounded_body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if it is too long, whatever its header says."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _text(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
