"""Read a job file strictly: every mistake is found before anything runs, and all are told at once."""

from __future__ import annotations

import copy
import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import tomlkit
from pydantic import TypeAdapter, ValidationError

from cluster.secrets import without_credentials
from ray_jobs.errors import JobError
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.limits import MAX_DEPTH, is_deep, shown
from ray_jobs.job_file.sections import (
    TRAINING_KEYS,
    ArchiveSection,
    ClassifierSection,
    ClipSection,
    ClusterSection,
    DiffusionSection,
    EscalateSection,
    EvaluateSection,
    Job,
    JobSection,
    StorageSection,
    SupportSection,
)

MAX_JOB_BYTES = 1 << 20
MAX_LINES = 10_000
"""Lines that are looked through for where a mistake stands."""
MAX_TOLD = 50
"""Mistakes told of one section, and sections that are looked at."""

SECTIONS: dict[str, type[Any]] = {
    "job": JobSection,
    "archive": ArchiveSection,
    "support": SupportSection,
    "clip": ClipSection,
    "classifier": ClassifierSection,
    "diffusion": DiffusionSection,
    "escalate": EscalateSection,
    "evaluate": EvaluateSection,
    "storage": StorageSection,
    "cluster": ClusterSection,
    "deploy": DeploySection,
}

NO_PASSWORDS = "a URL with a password in it: credentials come from the environment or from the machine's identity"
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def read_job(path: str | Path, overrides: Sequence[str] = (), *, needs: Iterable[str] = ()) -> tuple[Job, list[str]]:
    """Read a job file.

    Args:
        path: a TOML file.
        overrides: "section.key=value", the value in TOML (a bare word counts as a string).
        needs: sections that the command cannot do without, beside [job].

    Returns:
        the job, as far as its sections are right, and every problem found so far, one line each, with the line of the
        file. The caller adds what it finds in the sections that are right before it stops (`stop_if_any`).

    Raises:
        JobError: there is no such file, it is no TOML, without [job], or with a password in a URL.
    """
    text = _text(Path(path))
    document = _document(text, str(path))
    problems: list[str] = []
    for override in overrides:
        _apply(document, override, problems)
    given = frozenset(tuple(override.partition("=")[0].strip().split(".")) for override in overrides)
    _refuse_passwords(document, str(path), text)
    sections: dict[str, Any] = {}
    for name, content in islice(document.items(), MAX_TOLD):
        where = _Where(str(path), text, name, given)
        if name not in SECTIONS:
            problems.append(where.say(_unknown("section", f"[{name}]", [f"[{s}]" for s in SECTIONS])))
        elif not isinstance(content, dict):
            problems.append(where.say(f"expected a section [{name}], got {name} = {shown(content)}"))
        else:
            sections[name] = _section(SECTIONS[name], content, where, problems)
    problems += [f"{path}: {problem}" for problem in _missing(document, needs)]
    if not sections.get("job"):
        raise JobError(problems)
    found = {name: value for name, value in sections.items() if value is not None}
    return Job(**found, given=frozenset(sections)), problems


def _missing(document: Mapping[str, Any], needs: Iterable[str]) -> Iterator[str]:
    """Sections that are missing. A stored classifier needs no examples, but [escalate] does."""
    classifier = document.get("classifier")
    is_stored = isinstance(classifier, dict) and "from" in classifier
    for name in ("job", *needs):
        if name in document or (name == "support" and is_stored and "escalate" not in document):
            continue
        reason = ": [escalate] needs examples, also with [classifier] from" if name == "support" and is_stored else ""
        yield f"section [{name}] is missing{reason}. {_example(name)}"


def stop_if_any(problems: Sequence[str]) -> None:
    """Raise the problems found.

    Raises:
        JobError: if there is one.
    """
    if problems:
        raise JobError(problems)


def resolved(job: Job) -> dict[str, Any]:
    """The job with every default filled in, as plain JSON and TOML values, to be stored beside results.

    What was None is left out, and so are credentials in URLs; beside a stored classifier, so is what it brings.
    """
    found = {name: _storable(_keyed(section)) for name in SECTIONS if (section := getattr(job, name)) is not None}
    if job.classifier.from_ is not None:
        found["classifier"] = {key: value for key, value in found["classifier"].items() if key not in TRAINING_KEYS}
        if job.clip_given is None:
            del found["clip"]
    return found


def job_file_text(job: Job) -> str:
    """The job file of a job: overrides applied, every default filled in."""
    return tomlkit.dumps(resolved(job))


def _refuse_passwords(document: Mapping[str, Any], path: str, text: str) -> None:
    """Nobody looks at a job any further that has a password in a URL: it would be told in errors."""
    stop_if_any(
        [
            _Where(path, text, name).say(f"[{name}] {key}: {NO_PASSWORDS}", key)
            for name, content in document.items()
            for key, value in (content.items() if isinstance(content, dict) else ())
            if isinstance(value, str) and PASSWORD.search(value)
        ]
    )


def _keyed(section: Any) -> dict[str, Any]:
    """A section's values by the keys of the job file."""
    return {_key(name): value for name, value in asdict(section).items()}


def _key(field: str) -> str:
    """The key of a field: one that is a word of Python has an underscore behind it there."""
    return field.rstrip("_")


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _storable(value) if isinstance(value, dict) else value


class _Where:
    """Where in the file something stands, or that it is not from there, for messages."""

    def __init__(self, path: str, text: str, section: str, given: Collection[tuple[str, ...]] = ()) -> None:
        self._path, self._lines, self._section = path, text.splitlines()[:MAX_LINES], section
        self._given = given

    def say(self, message: str, *key: str) -> str:
        if key and any((self._section, *key)[: len(path)] == path for path in self._given):
            return f"--set {'.'.join((self._section, *key))}: {message}"
        line = self._line(key)
        return f"{self._path}{f', line {line}' if line else ''}: {message}"

    def _line(self, key: tuple[str, ...]) -> int | None:
        """Where a key stands, given by the tables it lies in and its name; without it, where the section begins."""
        table, found = "", None
        for number, line in enumerate(self._lines, start=1):
            if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", line):
                table = ".".join(part.strip("\"' ") for part in header[1].split("."))
                if found is None and f"{table}.".startswith(f"{self._section}."):
                    found = number
            elif any(
                table == ".".join([self._section, *key[:depth]])
                and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line)
                for depth, name in enumerate(key)
            ):
                return number
        return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JOB_BYTES + 1)
        if len(data) > MAX_JOB_BYTES:
            raise JobError([f"{path} is larger than {MAX_JOB_BYTES} bytes: expected a job file"])
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise JobError([f"there is no job file {path}"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise JobError([f"cannot read the job file {path}: {error}"]) from error


def _document(text: str, path: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply; ValueError: or a huge number
        raise JobError([f"{path} is not valid TOML: {error}"]) from error
    if is_deep(document):
        raise JobError([f"{path} is nested deeper than {MAX_DEPTH} levels: expected sections with keys"])
    return document


def _section(kind: type[Any], content: dict[str, Any], where: _Where, problems: list[str]) -> Any:
    """A section; what is wrong in it is told, and the rest of it kept so that it, too, can be looked at."""
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        mistakes = error.errors()
        problems += [_told(item, kind, where) for item in mistakes[:MAX_TOLD]]
        if len(mistakes) > MAX_TOLD:
            problems.append(where.say(f"{len(mistakes) - MAX_TOLD} more mistakes in [{where._section}]"))
        rest = _without(content, mistakes)
    with suppress(ValidationError):
        return adapter.validate_python(rest)
    return None


def _without(content: dict[str, Any], mistakes: Iterable[Any]) -> dict[str, Any]:
    """The section without the keys that are wrong, and without the tables in it that lack one."""
    rest = copy.deepcopy(content)
    for item in mistakes:
        *parents, key = [*takewhile(lambda part: isinstance(part, str), item["loc"])] or [None]
        if item["type"].startswith("missing") and parents:
            *parents, key = parents
        table = rest
        for parent in parents:
            table = table.get(parent, {})  # Gone already, if it lacks a key as well.
        table.pop(key, None)
    return rest


def _told(item: Any, kind: type[Any], where: _Where) -> str:
    """One of pydantic's errors in our words: what was expected, what was got, what to do."""
    loc = item["loc"]
    path = ".".join(str(part) for part in loc if part is not None)
    key = tuple(takewhile(lambda part: isinstance(part, str), loc))
    section = where._section
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        table = ".".join([section, *(part for part in loc[:-1] if isinstance(part, str))])
        hint = " Credentials come from the environment or from the machine's identity." if section == "storage" else ""
        return where.say(_unknown(f"key in [{table}]", str(loc[-1]), _keys(kind, loc[:-1])) + hint, *key)
    if item["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return where.say(f"[{section}] needs {path}")
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return where.say(f"[{section}] {message}", message.split()[0])
    got = item["input"]
    return where.say(f"[{section}] {path}: {message[0].lower()}{message[1:]}, got {shown(got)}", *key)


def _keys(kind: type[Any], path: Iterable[str | int]) -> list[str]:
    """The keys of a section, or of a table in it."""
    for part in path:
        if isinstance(part, str):
            kind = _table(get_type_hints(kind)[part]) or kind
    return [_key(f.name) for f in fields(kind)]


def _table(annotation: Any) -> type[Any] | None:
    """The dataclass in an annotation such as `tuple[Section, ...]` or `Section | None`."""
    if is_dataclass(annotation):
        return cast("type[Any]", annotation)
    return next((found for part in get_args(annotation) if (found := _table(part))), None)


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}."


def _example(section: str) -> str:
    required = [_key(f.name) for f in fields(SECTIONS[section]) if f.default is f.default_factory]
    return "It needs: " + ", ".join(required) if required else ""


def _apply(document: dict[str, Any], override: str, problems: list[str]) -> None:
    """Set one key of the document; the value is TOML, or a string where it is not."""
    path, separator, value = override.partition("=")
    section, *keys = path.strip().split(".")
    if not separator or not keys:
        problems.append(f"--set {shown(override)}: expected section.key=value, e.g. --set support.shots=4")
        return
    if len(keys) > MAX_DEPTH:
        problems.append(f"--set {shown(override)}: more than {MAX_DEPTH} levels of keys")
        return
    parsed = _override_value(value)
    target = document.setdefault(section, {})
    for depth, key in enumerate(keys):
        if not isinstance(target, dict):
            problems.append(f"--set {shown(override)}: {'.'.join([section, *keys[:depth]])} is not a section")
            return
        if depth < len(keys) - 1:
            target = target.setdefault(key, {})
    target[keys[-1]] = parsed


def _override_value(value: str) -> Any:
    """The value in TOML; whatever is not one such value is a text."""
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return value.strip()
    return parsed["value"] if parsed.keys() == {"value"} and not is_deep(parsed) else value.strip()
