"""Write `docs/job_file.md`, the reference of all keys of a job file, from the sections' types and docstrings.

    python -m tools.job_file_reference

`make docs` runs this; a test fails while the page is not what this writes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray_jobs.job_file.command_needs import NEEDS
from ray_jobs.job_file.keys import Key, keys_of, table_in, title_and_summary
from ray_jobs.job_file.sections import Job

PAGE = Path(__file__).resolve().parent.parent / "docs" / "job_file.md"
INTRODUCTION = """\
# Job file

<!-- Written by `make docs` from the classes in ray_jobs/job_file; edit their docstrings instead. -->

A job file is a TOML file that says what a job reads, how it classifies and where it writes. The smallest one has three
sections:

```toml
#:schema ./job.schema.json

[job]
name = "groceries"
output = "runs/groceries"

[archive]
uri = "photos/"

[support]
uri = "examples/"
```

* Every command reads it strictly. Unknown keys and wrong values stop it with exit code 2 before anything runs, and all
  mistakes are listed at once.
* `--set SECTION.KEY=VALUE` overrides a key for one command, such as `--set support.shots=8`; the value is TOML, or a
  string without quotes.
* `fewshot schema > job.schema.json` writes a JSON schema. With the first line above, editors that know taplo (Even
  Better TOML in VS Code) complete keys and mark mistakes.
* Paths are relative to the folder in which a command runs. URLs are those of fsspec (`s3://`, `gs://`, `https://`, …);
  credentials in a URL are refused.
* Each run stores the job file that it used, with every default filled in, as `runs/<run>/job.toml` in its output.

"""


def make_reference() -> str:
    """Return the page as Markdown."""
    tables = dict(_tables(Job))
    needed = {name: f" Needed by `fewshot {command}`." for command, names in NEEDS.items() for name in names}
    contents = [_contents_line(table) for table in tables.values()]
    sections = [_section(name, table, needed) for name, table in tables.items()]
    return INTRODUCTION + "\n".join([*contents, "", *sections])


def _tables(table: type[Any], prefix: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Yield each section and each table in it, with the path that leads there."""
    for name, key in keys_of(table).items():
        if (kind := table_in(key.annotation)) is not None:
            yield f"{prefix}{name}", kind
            yield from _tables(kind, f"{prefix}{name}.")


def _contents_line(table: type[Any]) -> str:
    title, summary = title_and_summary(table)
    first = summary.splitlines()[0]
    return f"* [`{title}`](#{_anchor(title)}): {first[:1].lower()}{first[1:]}"


def _section(name: str, table: type[Any], needed: Mapping[str, str]) -> str:
    title, summary = title_and_summary(table)
    rows = [_row(key) for key in keys_of(table).values()]
    lines = [f"## `{title}`", "", summary + needed.get(name, ""), "", "| key | value | default | meaning |"]
    return "\n".join([*lines, "|---|---|---|---|", *rows, ""])


def _row(key: Key) -> str:
    kind = table_in(key.annotation)
    value = key.expected if kind is None else f"[`{(title := title_and_summary(kind)[0])}`](#{_anchor(title)})"
    return f"| `{key.name}` | {_cell(value)} | {_default(key)} | {_cell(key.help)} |"


def _default(key: Key) -> str:
    if key.is_required:
        return "required"
    if key.default is None:
        return "not set"
    if dataclasses.is_dataclass(key.default) or key.default in ((), {}):
        return "its defaults" if dataclasses.is_dataclass(key.default) else "none"
    value = list(key.default) if isinstance(key.default, tuple) else key.default
    return f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "".join(char for char in title.lower() if char.isalnum() or char in "-_ ").replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(make_reference(), encoding="utf-8")
