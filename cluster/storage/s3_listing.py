"""Listings of S3: pages of a thousand objects, and the folders of a large listing side by side in the same order.

A page begins after the last key of the page before it, so a flat listing takes one round trip for each thousand
objects. Names of folders are known sooner: one listing with a delimiter has a thousand of them. Between these names, a
listing is cut into ranges of keys, which are listed at the same time and returned one after the other. The names only
say where to cut; which objects there are is always decided by flat listings, so every cut gives the same result.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from cluster.storage.read_ahead import Window, in_order
from cluster.storage.s3_requests import REDIRECTED, discard_requests, error_in_place_of_content, s3_code, s3_requests

PAGE_OBJECTS = 1000
RANGE_OBJECTS = 2 * PAGE_OBJECTS
"""Objects that a range should have: with fewer, most of its last page is empty; with more, few ranges are ahead."""
RANGE_PAGES = 4
"""Pages of a range that are listed ahead. The rest of a longer one is listed when it is reached."""
MIN_FOLDER_OBJECTS = 16
"""Objects in a folder, on average, below which asking for the names of folders costs more round trips than it saves."""

_WINDOW = Window(first=4, most=16)
_ELEMENTS = frozenset({"IsTruncated", "Name", "MaxKeys", "KeyCount", "Contents", "CommonPrefixes"})


class NotS3Error(OSError):
    """The server does not respond as S3 does."""


class Listed(NamedTuple):
    """An object in a listing: its key, its bytes, its ETag."""

    key: str
    size: int
    tag: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing.

    Attributes:
        objects: sorted by the bytes of their keys, which is the order of Python's strings.
        folders: common prefixes, sorted, each with "/" at its end; only in a listing with a delimiter.
        token: requests the next page; "" on the last one.
    """

    objects: Sequence[Listed]
    folders: Sequence[str] = ()
    token: str = ""


class RequestPage(Protocol):
    """Requests a page of a listing. Empty arguments are left out."""

    def __call__(self, *, prefix: str, delimiter: str = "", start_after: str = "", token: str = "") -> Page: ...


def request_page(
    filesystem: Any,
    bucket: str,
    *,
    prefix: str,
    delimiter: str = "",
    start_after: str = "",
    token: str = "",
    most: int = 0,
) -> Page:
    """Request a page of a listing.

    Args:
        filesystem: s3fs.
        bucket: name of the bucket.
        prefix: of the keys.
        delimiter: "/" lists folders instead of the objects in them.
        start_after: the key after which the page begins.
        token: of the page before.
        most: objects on the page; 0 is the server's own limit, usually a thousand.

    Raises:
        NotS3Error: the response is no listing, or the same page would follow again and again.
        Exception: see `S3Requests`.
    """
    query = {"prefix": prefix, "delimiter": delimiter, "start-after": start_after, "continuation-token": token}
    query = {name: value for name, value in query.items() if value} | ({"max-keys": str(most)} if most else {})
    page = _send(filesystem, bucket, query)
    if token and page.token == token:
        raise NotS3Error(errno.EPROTO, "the listing does not end: a page has the token that requested it")
    return page


def _send(filesystem: Any, bucket: str, query: Mapping[str, str]) -> Page:
    """Request a page by a request of our own; by s3fs where only that can make one, or follows a redirect."""
    if (requests := s3_requests(filesystem, bucket)) is not None:
        try:
            return parse_page(requests.list_page(query))
        except OSError as error:
            if s3_code(error) not in REDIRECTED:
                raise
    page = _page_by_s3fs(filesystem, bucket, query)
    if requests is not None:  # It was redirected, and remembers where to.
        discard_requests(filesystem, bucket)
    return page


def list_flat(request: RequestPage, prefix: str, *, delimiter: str = "") -> Iterator[Page]:
    """Yield the pages of a listing, one after the other."""
    page = request(prefix=prefix, delimiter=delimiter)
    yield page
    while page.token:
        page = request(prefix=prefix, delimiter=delimiter, token=page.token)
        yield page


def list_side_by_side(request: RequestPage, prefix: str) -> Iterator[Listed]:
    """Yield the objects below a prefix, sorted by key, listing several folders at a time where there are many.

    Objects that mark a folder (their keys end with "/") may be left out.

    Args:
        request: requests a page; called in several threads.
        prefix: of the keys; "" or with "/" at its end.
    """
    page = request(prefix=prefix)
    yield from page.objects
    if not page.token:
        return
    if not page.objects or not (second := _following(request, prefix, page.objects[-1].key)):
        yield from _list_rest(request, prefix, page.token)
        return
    page, searched = second, ""
    yield from page.objects
    while page.token:
        folder = page.objects[-1].key.rpartition("/")[0] if page.objects else searched
        cuts = [] if folder == searched else _cuts(request, prefix, page)
        searched = folder  # A large folder is many pages, and has the same folders after it on each.
        if cuts:
            yield from _list_ranges(request, prefix, [page.objects[-1].key, *cuts])
            page = request(prefix=prefix, start_after=cuts[-1])
        else:
            page = request(prefix=prefix, token=page.token)
        yield from page.objects


def _following(request: RequestPage, prefix: str, key: str) -> Page | None:
    """Return the page after a key; None if the server ignores where it is to start."""
    page = request(prefix=prefix, start_after=key)
    return None if page.objects and page.objects[0].key <= key else page


def _list_rest(request: RequestPage, prefix: str, token: str) -> Iterator[Listed]:
    while token:
        page = request(prefix=prefix, token=token)
        yield from page.objects
        token = page.token


def _cuts(request: RequestPage, prefix: str, page: Page) -> list[str]:
    """Return names of folders after a page, between which the listing is cut; none where that is of no use."""
    last = page.objects[-1].key
    folders = len({item.key.rpartition("/")[0] for item in page.objects})
    folder = last.rpartition("/")[0]
    if len(folder) < len(prefix) or len(page.objects) < MIN_FOLDER_OBJECTS * folders:
        return []
    parent = folder[: folder.rfind("/") + 1]
    found = request(prefix=parent, delimiter="/", start_after=last).folders
    after = [name for name in found if name > last]
    return after[:: max(1, RANGE_OBJECTS * folders // len(page.objects))]


def _list_ranges(request: RequestPage, prefix: str, cuts: Sequence[str]) -> Iterator[Listed]:
    """Yield the objects after the first cut and before the last one, those at cuts left out."""
    ranges = list(itertools.pairwise(cuts))

    def list_range(ends: tuple[str, str]) -> tuple[list[Listed], str]:
        start, stop = ends
        objects, token = _within(request(prefix=prefix, start_after=start), stop)
        for _ in range(RANGE_PAGES - 1):
            if token:
                more, token = _within(request(prefix=prefix, token=token), stop)
                objects += more
        return objects, token

    for (_, stop), (objects, token) in zip(ranges, in_order(list_range, ranges, _WINDOW), strict=True):
        yield from objects
        while token:
            objects, token = _within(request(prefix=prefix, token=token), stop)
            yield from objects


def _within(page: Page, stop: str) -> tuple[list[Listed], str]:
    """Return the objects of a page before a key, and the token of the next page; "" if the key is on this one."""
    objects = [item for item in page.objects if item.key < stop]
    return objects, page.token if len(objects) == len(page.objects) else ""


def parse_page(xml: bytes) -> Page:
    """Parse a response to ListObjectsV2.

    Raises:
        ResponseParserError: it is not XML.
        OSError: it is an error with status 200.
        NotS3Error: it has no element of a listing, as a web page that happens to be XML, or breaks off.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 (expat limits the expansion of entities)
    except ET.ParseError as error:
        from botocore.parsers import ResponseParserError

        raise ResponseParserError(f"the response to a listing is not XML: {error}") from None
    space = root.tag[: root.tag.find("}") + 1]
    if root.tag == f"{space}Error":
        raise error_in_place_of_content(xml, "ListObjectsV2")
    if not is_listing(child.tag.removeprefix(space) for child in root):
        raise NotS3Error(errno.EPROTO, "the response is not an S3 listing")
    decode: Callable[[str], str] = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    key, size, tag = f"{space}Key", f"{space}Size", f"{space}ETag"
    try:
        objects = [
            Listed(decode(item.findtext(key, "")), int(item.findtext(size, "0")), item.findtext(tag, ""))
            for item in root.iterfind(f"{space}Contents")
        ]
    except ValueError as error:
        raise NotS3Error(errno.EPROTO, f"a listing with a size that is not a number: {error}") from None
    prefixes = root.iterfind(f"{space}CommonPrefixes/{space}Prefix")
    is_cut = root.findtext(f"{space}IsTruncated") == "true"
    token = _token(root.findtext(f"{space}NextContinuationToken"), is_cut=is_cut)
    return Page(objects, tuple(decode(item.text or "") for item in prefixes), token)


def _token(found: str | None, *, is_cut: bool) -> str:
    """Return the token of the next page; "" on the last one.

    Raises:
        NotS3Error: there are more objects, and no token to request them: the server knows only older listings.
    """
    if is_cut and not found:
        raise NotS3Error(errno.EPROTO, "the listing breaks off: it is truncated, without a NextContinuationToken")
    return found if is_cut and found else ""


def is_listing(elements: Iterable[str]) -> bool:
    """Return whether a response with these elements is a listing."""
    return not _ELEMENTS.isdisjoint(elements)


def _page_by_s3fs(filesystem: Any, bucket: str, query: Mapping[str, str]) -> Page:
    arguments: dict[str, Any] = {"".join(map(str.capitalize, name.split("-"))): query[name] for name in query}
    if "MaxKeys" in arguments:
        arguments["MaxKeys"] = int(arguments["MaxKeys"])
    response = filesystem.call_s3("list_objects_v2", Bucket=bucket, **arguments)
    if not is_listing(response):
        raise NotS3Error(errno.EPROTO, "the response is not an S3 listing")
    objects = [Listed(item["Key"], int(item["Size"]), item["ETag"]) for item in response.get("Contents", ())]
    folders = tuple(item["Prefix"] for item in response.get("CommonPrefixes", ()))
    token = _token(response.get("NextContinuationToken"), is_cut=bool(response.get("IsTruncated")))
    return Page(objects, folders, token)
