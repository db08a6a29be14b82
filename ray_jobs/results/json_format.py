"""Typed values that are stored and printed as JSON, and read back strictly.

Every document says its `format_version` and ends with a digest of its content. A reader refuses what it does not
understand (a newer version, an unknown or a missing key, a value of another type) or what is not as it was written,
with the name of the file and what to do, and never guesses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

from fewshot.digests import KEY, DigestError, check_json, seal_json
from ray_jobs.errors import JobError

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A value of a JSON document."""
JsonObject: TypeAlias = dict[str, Json]

FORMAT_KEY = "format_version"
MAX_SHOWN = 5
"""Mistakes of a document that an error lists."""


class FormatError(JobError, ValueError):
    """A stored document is damaged, or in a format that this version of fewshot cannot read."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


class OlderFormatError(FormatError):
    """A stored document was written by an older version of fewshot."""


class NewerFormatError(FormatError):
    """A stored document was written by a newer version of fewshot."""


class SupportsJson(Protocol):
    """What a command can print."""

    def to_json(self) -> JsonObject:
        """Return the value as a JSON object."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonValue:
    """Base of the values in a document: dataclasses of JSON values, tuples, mappings and each other.

    Attributes:
        omitted: fields that are left out where they are None, so that documents without them keep their bytes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid", "strict": True}
    omitted: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> JsonObject:
        """Return the fields by name. A number that does not exist (NaN, infinity) is null: JSON has none."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: to_plain(value) for name, value in values.items() if value is not None or name not in self.omitted
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonDocument(JsonValue):
    """Base of the documents.

    Attributes:
        format_version: raised when keys change their names or their meaning.
    """

    format_version: ClassVar[int] = 2

    def to_json(self) -> JsonObject:
        """Return the document, `format_version` first."""
        return {FORMAT_KEY: self.format_version, **JsonValue.to_json(self)}

    def to_bytes(self) -> bytes:
        """Return the document as it is stored, readable for people, with its digest."""
        return (json.dumps(seal_json(self.to_json()), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes | str, *, where: str) -> Self:
        """Read a stored document.

        Args:
            data: the JSON text.
            where: URL or path of the file, for errors.

        Raises:
            FormatError: it is damaged, of a newer version, or has other keys than this version writes.
        """
        content = _checked(cls, _parsed(data, where), where)
        found: Self = _validated(cls, cls.restructured(content), where)
        return found

    @classmethod
    def restructured(cls, content: JsonObject) -> JsonObject:
        """Return the stored object in the shape of the fields; documents that are stored flat override this."""
        return content


def to_plain(value: Any) -> Json:
    """Return a value of dataclasses, mappings, sequences and scalars as JSON; NaN and infinities are null."""
    if isinstance(value, JsonValue):
        return value.to_json()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def _parsed(data: bytes | str, where: str) -> JsonObject:
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is damaged: not JSON ({error}). {REMEDY}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{where} is damaged: expected a JSON object, got {type(content).__name__}. {REMEDY}")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


REMEDY = "Delete it and run the job again to write it anew."


def _checked(kind: type[JsonDocument], content: JsonObject, where: str) -> JsonObject:
    """Return the content without version and digest. The version is compared only if the digest is right or missing."""
    try:
        return _checked_version(kind, check_json(content), where)
    except DigestError as error:
        if KEY not in content:
            _checked_version(kind, content, where)
        raise FormatError(f"{where} is damaged: {error}. {REMEDY}") from error


def _checked_version(kind: type[JsonDocument], content: JsonObject, where: str) -> JsonObject:
    version, readable = content.get(FORMAT_KEY), kind.format_version
    if version == readable and type(version) is int:
        return {key: value for key, value in content.items() if key != FORMAT_KEY}
    if type(version) is int and version > readable:
        raise NewerFormatError(
            f"{where} has format {version}; this version of fewshot reads format {readable}. Upgrade fewshot."
        )
    found = f"{FORMAT_KEY} {version!r}" if FORMAT_KEY in content else f"no {FORMAT_KEY}"
    problem = f"{where} has {found}, expected {readable}: it is from an older version of fewshot"
    if type(version) is int:
        raise OlderFormatError(f"{problem}. Run the job again to make it anew.")
    raise FormatError(f"{problem}, or damaged. {REMEDY}")


def _validated(kind: type[JsonDocument], content: JsonObject, where: str) -> Any:
    from pydantic import ValidationError

    try:
        return _adapter(kind).validate_json(json.dumps(content))  # type: ignore[arg-type]  # (types are hashable)
    except ValidationError as error:
        mistakes = [_mistake(item["type"], item["loc"], item["msg"]) for item in error.errors()]
        more = f" and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
        shown = "; ".join(mistakes[:MAX_SHOWN])
        raise FormatError(f"{where} is damaged or from another version: {shown}{more}. {REMEDY}") from error


@cache
def _adapter(kind: type[JsonDocument]) -> TypeAdapter[Any]:
    """Return what checks documents of a kind; it takes longer to make than a small document takes to read."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _mistake(kind: str, location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {key}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"key {key} is missing"
    return f"{key}: {message[0].lower()}{message[1:]}"
