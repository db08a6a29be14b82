"""Remove secrets from texts: messages, logs and stored files may quote exceptions, which may quote the environment.

Three kinds are found: credentials in URLs, the values of environment variables named like secrets, and values beside a
name such as `password=`, `--password`, `"accessToken":` or in a header such as `Authorization:`. Texts quote each
other, so all of them are also found percent-encoded, as JSON or Python write them, and as HTML.

Where a URL is ambiguous, messages hide too much rather than too little: what stands before the last "@" of
`https://me:pass/word@host` could be a host, a port and a path. A URL that is opened or stored (`public_url`) keeps
everything that may be its path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import groupby
from urllib.parse import unquote

MIN_LENGTH = 8
"""Shorter values are not treated as secrets: they would match in the middle of words."""
MAX_LENGTH = 10_000
"""Longer values are found only as they are."""
HIDDEN = "***"
MAX_DEPTH = 4
"""URLs within each other that are shown."""

_SECRET_NAME = re.compile(
    r"((CREDENTIAL|PASS(PHRASE|WD|WORD)|SECRET(ACCESS)?(KEY)?|TOKEN)S?"  # These endings are unambiguous.
    r"|(?<![A-Z])((ACCESS|API)?KEYS?|AUTH(ORIZATION)?|BEARER|CONNECTION_STRING|COOKIE|PAT|PRIVATE|SAS|SIGNATURE))"
    r"(?![A-Z])(?!.*_(FILE|PATH|DIR|MODE|SOCK)$)"
)
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})(?P<slashes>:(?:\\{0,8}/){2})(?P<rest>(?:(?!::[a-z][a-z0-9+]{1,30}:\\{0,8}/)\S)*)"
)
_ENCODED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}%(?:25)*3[aA](?:/|%(?:25)*2[fF]){2}[^\s\"'<>]*")
_MERGED_SLASHES = re.compile(r"(?i)(?<![a-z0-9+.-])((?:ftp|gs|https?|s3a?):/)(?![/\s])([^\s/@]*:\S*)@")
"""A password in a URL that lost one of its slashes, as `pathlib` and normalised paths write it."""
_BLANK_IN_PASSWORD = re.compile(
    r"(:(?:\\{0,8}/){2})[^\s/?#@:\"'<>]{0,64}:(?!\d{1,5}(?:[/\s,;)]|$))[^\s@\"'<>]{1,200}"
    r"(?:[ \t][^\s@\"'<>]{1,100}){1,4}@(?=[\w\[])"
)
_NO_SCHEME = re.compile(
    r"(?i)(?<![:\w/.\\])((?:\\{0,8}/|%(?:25)*2f){2})[^\s/\\@:\"'<>]{0,64}?(?::|%(?:25)*3a)\S*(?:@|%(?:25)*40)"
)
"""Credentials in a URL without a scheme, `//me:password@host`."""
_FILE_NAME = re.compile(
    r"(?i)[^/\\]*\.(?:avif|bmp|csv|gif|gz|heic|jpe?g|jsonl?|jxl|parquet|png|tar|tgz|tiff?|txt|webp|zip)\b[^\w/]*"
)
"""What follows an "@" in the name of a file, such as `logo@2x.png`, and is no host."""
_HEAD = re.compile(r"(?:(?!\\{0,8}/)[^?#])*")
"""User and host of a URL, up to the path, which JSON may have written with escaped slashes."""
_SURE_HOST = re.compile(r"\[[^\]\s]*\](:\d{1,5})?|(localhost|[\w-]+(\.[\w-]+)+):\d{1,5}")
_LIKELY_HOST = re.compile(r"\[[^\]\s]*\](:\d{1,5})?|[\w.-]+:\d{1,5}")
_PARAMETERS = re.compile(r"[?#]|(?:;|%(?:25)*3[bBfF]|%(?:25)*23)[\w.-]+(?:=|%(?:25)*3[dD])")
_PLACE_PARAMETERS = re.compile(
    r"\?|[#;](?:[^/\s]{0,200}[&;])?(?i:[\w.-]{0,40}(?:auth|credential|key|pass|pwd|secret|session|sig|signature|token)[\w.-]{0,40})="
)
_HTTP = frozenset({"http", "https"})
_CONTAINER_BEFORE_HOST = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""Schemes in whose URLs the name before "@" is a container."""
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|cookie|set-cookie|x-amz-security-token|x-api-key)"
    r"(\\{0,8}[\"']?\s{0,8}[:=]\s{0,8}|\\{0,8}[\"']\s{0,8},\s{0,8})"
    r"(b?\\{0,8}[\"'](?:(?!\\{0,8}[\"']).)*|[^\r\n\"']+)"
)
_BEARER = re.compile(
    r"(?i)(?:(?<![a-z0-9])|(?<=%[0-9a-f]{2}))(bearer)((?:\s|%(?:25)*20|\+){1,8})(?!(?:auth\w*|challenges?|credentials?|headers?|schemes?|tokens?)\b)([\w.~+/=%-]{6,})"
)
_BASIC = re.compile(
    r"(?i)(?:(?<![a-z0-9])|(?<=%[0-9a-f]{2}))(basic)((?:\s|%(?:25)*20|\+){1,8})((?=[\w+/]*(?:[0-9=%]|(?-i:[a-z][A-Z])))[\w+/=%]{6,})"
)
_KEY_NAME = r"(?:api|access|account|secret|private|shared)[_-]?(?:access[_-]?)?(?:key|signature)"
_ASSIGNED = re.compile(
    r"(?i)(?:(?<![a-z0-9])|(?<=%[0-9a-f]{2}))((?:[a-z0-9]{1,30}[_-]){0,6}"
    rf"(?:[a-z0-9]{{0,30}}(?:pass(?:word|wd|phrase)|secret|token|{_KEY_NAME})|pwd|sig|signature|credentials?)(?:[_-]?key)?)"
    r"(\s{0,8}(?:=|%(?:25)*3d)\s{0,8}"
    r"|(?:\\{0,8}[\"']|%(?:25)*2[27])\s{0,8}(?::|%(?:25)*3a)(?:\s|%(?:25)*20|\+){0,8})"
    r"(b?\\{0,8}\"(?:\\.|[^\"\\])*|b?\\{0,8}'(?:\\.|[^'\\])*|[^\s\"'&]+)"
)
_OPTION = re.compile(
    rf"(?i)(?<![\w-])(--(?:[a-z0-9]{{1,30}}-){{0,6}}(?:pass(?:word|wd|phrase)|pwd|secret|token|{_KEY_NAME}))"
    r"(\s{1,8}|\\{0,8}[\"']\s{0,8},\s{0,8})(\\{0,8}\"(?:\\.|[^\"\\])*|\\{0,8}'(?:\\.|[^'\\])*|[^\s\"'-][^\s\"']*)"
)
"""An option of a command line with its value, also in a list."""
_LINE = re.compile(
    r"(?i)(?<![a-z0-9])((?:[a-z0-9]{1,30}[_-]){0,6}[a-z0-9]{0,30}pass(?:word|wd|phrase))"
    r"(:[ \t]{1,8})([^\s,;\"'}\]][^\r\n,;\"'}\]]*)"
)
"""A password in a line of YAML, which may contain blanks."""
_WORD = re.compile(
    rf"(?i)(?<![a-z0-9])((?:[a-z0-9]{{1,30}}[_-]){{0,6}}[a-z0-9]{{0,30}}(?:secret|token|{_KEY_NAME}))(:[ \t]{{1,8}})"
    r"((?=\S{6})(?=[^\s\d]*\d)[^\s,;\"'}\]]+|[^\s,;\"'}\]]+(?=\s*(?:$|[\r\n,;}\]])))"
)
"""Another secret in a line of YAML: a word with a digit, or one that ends the line, as prose may follow `token:`."""
_QUOTES = re.compile(r"b?\\*[\"']?")
_SHORT_ESCAPES = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f", "\v": "v", '"': '"', "'": "'", "/": "/"}
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&(?:quot|#34);", "'": "&(?:apos|#39|#x27);"}


def names_a_secret(name: str) -> bool:
    """Return whether an environment variable of this name is likely to contain a secret, not a file, mode or socket."""
    return _SECRET_NAME.search(name.upper()) is not None


def secrets_in(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose values are likely secrets."""
    return {name: value for name, value in environment.items() if len(value) >= MIN_LENGTH and names_a_secret(name)}


def quotes_secret(text: str, value: str) -> bool:
    """Return whether a text contains a secret, as it is or encoded."""
    return _pattern((value,)).search(text) is not None


def has_password(text: str) -> bool:
    """Return whether a URL in the text has a password before its host."""
    return any(_has_password(match["rest"]) for match in _URL.finditer(text))


def has_parameters(url: str) -> bool:
    """Return whether a URL has a query string, or a signature or token behind its path."""
    return any(_path_end(match["scheme"].lower(), match["rest"]) < len(match["rest"]) for match in _URL.finditer(url))


def public_url(url: str) -> str:
    """Return one URL without user, password, query string and signatures, still naming the same place."""
    return _URL.sub(_place, url)


def without_credentials(text: str) -> str:
    """Return a text without user, password, query string, fragment and parameters in its URLs."""
    text = _MERGED_SLASHES.sub(r"\1", _ENCODED_URL.sub(_decoded, text))
    return _URL.sub(_shown, _NO_SCHEME.sub(r"\1", _BLANK_IN_PASSWORD.sub(r"\1", text)))


def redacted(text: str) -> str:
    """Return a text without the secrets that are found in it; see this module's description.

    The longest values of the environment are replaced first, so that no part of one remains.
    """
    values = sorted(set(secrets_in(os.environ).values()), key=lambda value: (-len(value), value))
    if values:
        text = _pattern(tuple(values)).sub(HIDDEN, text)
    text = without_credentials(text)
    for pattern in (_HEADER, _BEARER, _BASIC, _OPTION, _ASSIGNED, _LINE, _WORD):
        text = pattern.sub(_hidden, text)
    return text


def _has_password(rest: str) -> bool:
    head = _HEAD.match(rest)[0]  # type: ignore[index]
    return ":" in head and "@" in rest and not _LIKELY_HOST.fullmatch(head)


def _shown(match: re.Match[str], depth: int = 0) -> str:
    scheme, rest = match["scheme"].lower(), match["rest"]
    head = _HEAD.match(rest)[0]  # type: ignore[index]
    if "@" in rest and _LIKELY_HOST.fullmatch(head):
        rest = _without_user(rest)
    elif ":" in head and not _SURE_HOST.fullmatch(head):
        rest = rest[rest.rfind("@") + 1 :]
    elif scheme not in _CONTAINER_BEFORE_HOST:
        rest = rest[head.rfind("@") + 1 :]
    if cut := _PARAMETERS.search(rest):
        rest = rest[: cut.start()]
    return f"{match['scheme']}{match['slashes']}{_nested(_shown, rest, depth)}"


def _without_user(rest: str) -> str:
    """Return what can be shown of `host:7/path@name` or `user:7/password@host`: what is no secret in both readings."""
    cut = _PARAMETERS.search(rest)
    path, parameters = (rest, "") if cut is None else (rest[: cut.start()], rest[cut.start() :])
    if "@" in parameters:
        return HIDDEN
    after = path[path.rfind("@") + 1 :]
    return path if _FILE_NAME.fullmatch(after) else after


def _place(match: re.Match[str], depth: int = 0) -> str:
    scheme, rest = match["scheme"].lower(), match["rest"]
    head = _HEAD.match(rest)[0]  # type: ignore[index]
    if scheme not in _CONTAINER_BEFORE_HOST or ":" in head.partition("@")[0]:
        rest = rest[(rest if _has_password(rest) and "@" not in head else head).rfind("@") + 1 :]
    return f"{match['scheme']}{match['slashes']}{_nested(_place, rest[: _path_end(scheme, rest)], depth)}"


def _nested(clean: Callable[[re.Match[str], int], str], rest: str, depth: int) -> str:
    """Return the rest of a URL with the URLs in it cleaned, or nothing of those that are nested too deeply."""
    return _URL.sub(lambda match: clean(match, depth + 1) if depth < MAX_DEPTH else HIDDEN, rest)


def _path_end(scheme: str, rest: str) -> int:
    """Return where the path of a place ends: before its query string, its signature or, over HTTP, its fragment."""
    cut = _PLACE_PARAMETERS.search(rest)
    end = cut.start() if cut else len(rest)
    return min(end, rest.index("#")) if scheme in _HTTP and "#" in rest else end


def _decoded(match: re.Match[str]) -> str:
    """Return a percent-encoded URL as it is, or decoded and redacted if it has credentials."""
    text = match[0]
    while (decoded := unquote(text)) != text:
        text = decoded
    shown = without_credentials(text)
    return match[0] if shown == text else shown


def _hidden(match: re.Match[str]) -> str:
    """Return the name with its value hidden; quotes around the value stay."""
    quotes = _QUOTES.match(match[3])[0]  # type: ignore[index]
    return f"{match[1]}{match[2]}{quotes}{HIDDEN}" if match[3] != quotes else match[0]


@lru_cache(maxsize=64)
def _pattern(values: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds these values, also in the ways in which a text may have encoded them."""
    return re.compile("|".join(re.escape(v) if len(v) > MAX_LENGTH else "".join(_runs(v)) for v in values))


def _runs(value: str) -> Iterator[str]:
    """Yield a pattern for each run of equal characters."""
    for char, run in groupby(value):
        count = sum(1 for _ in run)
        if char == "\\":  # One pattern for all: each may be doubled, several times.
            yield rf"(?:\\{{{count},{16 * count}}}|(?:%(?:25)*5[cC]){{{count},}}|(?:\\+(?:x|u00)5[cC]){{{count}}})"
        else:
            yield _forms(char) * count


@cache
def _forms(char: str) -> str:
    """Return a pattern for a character as it is, percent-encoded, as JSON or Python escape it, and in HTML."""
    plain = re.escape(char)
    if char.isascii() and (char.isalnum() or char in "-._~"):
        return plain
    data = char.encode("utf-8", "surrogatepass")
    utf16 = char.encode("utf-16-be", "surrogatepass").hex()
    forms = [
        plain,
        "".join(f"%(?:25)*{byte:02x}" for byte in data),
        "".join(rf"\\+x{byte:02x}" for byte in data),
        "".join(rf"\\+u{utf16[start : start + 4]}" for start in range(0, len(utf16), 4)),
        rf"\\+U{ord(char):08x}",
        rf"\\+x{ord(char):02x}",
    ]
    if char in _SHORT_ESCAPES:
        forms.append(rf"\\+{re.escape(_SHORT_ESCAPES[char])}")
    forms += [_HTML[char]] if char in _HTML else [r"\+"] if char == " " else []
    return f"(?:{forms[0]}|(?i:{'|'.join(forms[1:])}))"
