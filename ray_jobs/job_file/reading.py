"""Read a job file strictly: every mistake is found before anything runs, and all are reported at once."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import tomlkit
from pydantic import TypeAdapter, ValidationError

from cluster.records.names import printable
from cluster.secrets import has_password, public_url
from ray_jobs.errors import JobError
from ray_jobs.job_file.keys import keys_of, table_in
from ray_jobs.job_file.limits import MAX_BYTES, MAX_DEPTH, MAX_MISTAKES, is_deep, key_text, shortened
from ray_jobs.job_file.mistakes import Mistake, Position, find_mistakes, messages, place_of, suggestion
from ray_jobs.job_file.sections import TRAINING_KEYS, Job, JobSection

Table: TypeAlias = dict[str, Any]
"""A table of a TOML document: values of any kind, until pydantic has checked them."""
SECTIONS: dict[str, type[Any]] = {
    name: kind for name, key in keys_of(Job).items() if (kind := table_in(key.annotation)) is not None
}
"""The dataclasses of the sections, by name."""

NO_PASSWORDS = "a URL with a password in it; credentials come from the environment or from the machine's identity"
STAND_INS: dict[str, Table] = {"job": {"name": "unnamed", "output": "memory://unnamed"}}
"""Values in place of wrong ones, by section, with which the other sections are checked; no such job ever runs."""


def read_job(path: str | Path, overrides: Sequence[str] = (), *, needs: Iterable[str] = ()) -> tuple[Job, list[str]]:
    """Read a job file.

    Args:
        path: a TOML file.
        overrides: "section.key=value", the value in TOML (a bare word counts as a string).
        needs: sections that the command requires, beside [job].

    Returns:
        the job, as far as its sections are right, and every problem found so far, one line each, with the line of the
        file. The caller adds the problems that it finds in the right sections before it stops (`stop_if_any`).

    Raises:
        JobError: there is no such file, or it is not TOML.
    """
    return parse_job(_read_text(Path(path)), str(path), overrides, needs=needs)


def parse_job(
    text: str, path: str, overrides: Sequence[str] = (), *, needs: Iterable[str] = ()
) -> tuple[Job, list[str]]:
    """Read the text of a job file, which need not be stored anywhere.

    Args:
        text: TOML.
        path: name of the text in messages.
        overrides: see `read_job`.
        needs: see `read_job`.

    Returns:
        the same as `read_job`.

    Raises:
        JobError: the text is not TOML.
    """
    document = _parse(text, path)
    problems = [problem for override in overrides if (problem := _override(document, override)) is not None]
    overridden = frozenset(tuple(override.partition("=")[0].strip().split(".")) for override in overrides)
    sections: Table = {}
    wrong: set[str] = set()
    for name, content in islice(document.items(), MAX_MISTAKES):
        position = Position(path, text, name, overridden)
        if name not in SECTIONS:
            known = suggestion(f"[{name}]", [f"[{each}]" for each in SECTIONS])
            problems.append(position.message(f"[{key_text(name)}]: unknown section. {known}"))
        elif not isinstance(content, dict):
            advice = "; a second model is [clip.beside]" if name == "clip" and isinstance(content, list) else ""
            got = f"{name} = {shortened(content)}"
            problems.append(position.message(f"[{name}]: expected a section, got {got}{advice}"))
            wrong.add(name)
        else:
            sections[name], mistakes = _read_section(SECTIONS[name], name, content)
            problems += messages(mistakes, position)
            wrong |= {name} if mistakes else set()
    problems += [f"{path}: {problem}" for problem in _missing_sections(document, needs)]
    found = {name: value for name, value in sections.items() if value is not None}
    found.setdefault("job", JobSection(**STAND_INS["job"]))
    return Job(**found, given=frozenset(sections), wrong=frozenset(wrong)), problems


def _missing_sections(document: Mapping[str, Any], needs: Iterable[str]) -> Iterator[str]:
    """Yield a message for each section that is missing. A stored classifier needs no examples, but [escalate] does."""
    classifier = document.get("classifier")
    is_stored = isinstance(classifier, dict) and "from" in classifier
    for name in ("job", *needs):
        if name in document or (name == "support" and is_stored and "escalate" not in document):
            continue
        reason = "; [escalate] needs examples, also with [classifier] from" if name == "support" and is_stored else ""
        yield f"{_missing(name)}{reason}"


def parse_overrides(overrides: Sequence[str]) -> tuple[Table, list[str]]:
    """Read "section.key=value" settings without a job file.

    Returns:
        the values by section and key, as nested tables, and a line for each setting that is not of this form.
    """
    document: Table = {}
    problems = [problem for override in overrides if (problem := _override(document, override)) is not None]
    return document, problems


def stop_if_any(problems: Sequence[str]) -> None:
    """Raise the problems found.

    Raises:
        JobError: if there is one.
    """
    if problems:
        raise JobError(problems)


def resolved(job: Job) -> Table:
    """Return a job with every default filled in, as plain JSON and TOML values, to be stored beside results.

    Keys that are not set are left out, and so are credentials in URLs; beside a stored classifier, so are the keys
    that it determines.
    """
    found = {name: _storable(_keyed(section)) for name in SECTIONS if (section := getattr(job, name)) is not None}
    if job.classifier.from_ is not None:
        found["classifier"] = {key: value for key, value in found["classifier"].items() if key not in TRAINING_KEYS}
        if job.clip_given is None:
            del found["clip"]
    return found


def job_file_text(job: Job) -> str:
    """Return the job file of a job: overrides applied, every default filled in."""
    return tomlkit.dumps(resolved(job))


def _unusable(section: str, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Mistake]:
    """Yield a mistake for each value in a section that no key may have."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _unusable(section, item, (*path, key))
    elif (reason := _why_unusable(value)) is not None:
        yield Mistake(path, False, f"{place_of(section, path)}: {reason}")


def _why_unusable(value: Any) -> str | None:
    if isinstance(value, str) and has_password(value):
        return NO_PASSWORDS
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f"integers have at most 64 bits, got {shortened(value)}"
    return None


def _keyed(section: Any) -> Table:
    """A section's values by the keys of the job file."""
    return {_key(name): value for name, value in asdict(section).items()}


def _key(field: str) -> str:
    """The key of a field: one that is a word of Python has an underscore behind it there."""
    return field.rstrip("_")


def _storable(values: Mapping[str, Any]) -> Table:
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return public_url(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _storable(value) if isinstance(value, dict) else value


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise JobError([f"{path} is larger than {MAX_BYTES} bytes; expected a job file"])
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise JobError([f"there is no job file {path}"]) from error
    except IsADirectoryError as error:
        advice = "name the job file with which the output was made, such as job.toml"
        raise JobError([f"expected a job file, got the folder {printable(str(path))}: {advice}"]) from error
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text, or a NUL in the path
        raise JobError([f"cannot read the job file {printable(str(path))}: {error}"]) from error


def _parse(text: str, path: str) -> Table:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply; ValueError: or a huge number
        raise JobError([f"{path} is not valid TOML: {error}"]) from error
    if is_deep(document):
        raise JobError([f"{path} is nested deeper than {MAX_DEPTH} levels; expected sections with keys"])
    return document


def _read_section(table: type[Any], name: str, content: Table) -> tuple[Any, list[Mistake]]:
    """Return a section and its mistakes; keys with mistakes are left out, so that the rest can be checked, too.

    A check of the whole section runs only where its keys are right, so the rest may have further mistakes.
    """
    adapter, stand_ins = TypeAdapter(table), STAND_INS.get(name, {})
    mistakes = new = list(_unusable(name, content))
    for _ in range(MAX_MISTAKES):
        content = _without(content, new) | (stand_ins if mistakes else {})
        try:
            return adapter.validate_python(content), mistakes
        except ValidationError as error:
            known = {key for mistake in mistakes for key in (mistake.key, _removed(mistake))}
            new = [mistake for mistake in find_mistakes(table, name, error) if mistake.key not in known]
        if not new:
            break
        mistakes = [*mistakes, *new]
    return None, mistakes


def _without(content: Table, mistakes: Iterable[Mistake]) -> Table:
    """Return a section without its wrong keys, and without the tables in it that lack a key."""
    rest = copy.deepcopy(content)
    for mistake in mistakes:
        *parents, key = _removed(mistake) or ("",)
        table = rest
        for parent in parents:
            table = table.get(parent, {})  # Removed before, if it lacks a key as well.
        table.pop(key, None)
    return rest


def _removed(mistake: Mistake) -> tuple[str, ...]:
    """Return the path of what is left out because of a mistake: the wrong key, or the table that lacks one."""
    return mistake.key[:-1] if mistake.is_missing and len(mistake.key) > 1 else mistake.key


def _missing(section: str) -> str:
    required = [name for name, key in keys_of(SECTIONS[section]).items() if key.is_required]
    return f"[{section}]: missing section" + (f"; it needs {', '.join(required)}" if required else "")


def _override(document: Table, override: str) -> str | None:
    """Set one key of the document, and return the problem if that is impossible.

    Args:
        document: the job file; changed in place.
        override: "section.key=value"; a value that is not TOML is a string.
    """
    path, separator, value = override.partition("=")
    section, *keys = path.strip().split(".")
    if not separator or not keys:
        return f"--set {shortened(override)}: expected section.key=value, e.g. --set support.shots=4"
    if len(keys) > MAX_DEPTH:
        return f"--set {shortened(override)}: expected at most {MAX_DEPTH} levels of keys"
    target = document.setdefault(section, {})
    for depth, key in enumerate(keys):
        if not isinstance(target, dict):
            return f"--set {shortened(override)}: {'.'.join([section, *keys[:depth]])} is not a section"
        if depth < len(keys) - 1:
            target = target.setdefault(key, {})
    target[keys[-1]] = _override_value(value)
    return None


def _override_value(value: str) -> Any:
    """Return the value that a text is in TOML, or the text itself where it is not one value."""
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return value.strip()
    return parsed["value"] if parsed.keys() == {"value"} and not is_deep(parsed) else value.strip()
