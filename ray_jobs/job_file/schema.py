"""The JSON schema of job files (draft 2020-12), for editors that complete and check TOML files."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from fewshot.methods.table import METHODS
from ray_jobs.job_file.keys import keys_of, table_in, title_and_summary
from ray_jobs.job_file.sections import Job

JsonSchema: TypeAlias = dict[str, Any]
"""A schema as pydantic makes it."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_file_schema() -> JsonSchema:
    """Return the schema: sections, keys with their types, ranges, defaults and explanations, and names of methods."""
    made = TypeAdapter(Job).json_schema()
    tables = made.pop("$defs")
    for field in fields(Job):
        if field.metadata.get("is_derived"):
            del made["properties"][field.name]
    for kind in _tables(Job):
        _describe(made if kind is Job else tables[kind.__name__], kind)
    tables["ClassifierSection"]["properties"]["method"]["enum"] = list(METHODS)
    tables["EvaluateSection"]["properties"]["methods"]["items"]["enum"] = list(METHODS)
    return {"$schema": DIALECT} | made | {"$defs": tables}


def _tables(table: type[Any]) -> list[type[Any]]:
    """Return a table and all tables in it."""
    inner = [kind for key in keys_of(table).values() if (kind := table_in(key.annotation)) is not None]
    return [table, *(found for kind in inner for found in _tables(kind))]


def _describe(schema: JsonSchema, table: type[Any]) -> None:
    """Put the explanations of a table and of its keys into its schema, and take out what TOML does not have: null."""
    schema["title"], schema["description"] = title_and_summary(table)
    for name, key in keys_of(table).items():
        kind = table_in(key.annotation)
        help_ = key.help or (title_and_summary(kind)[1] if kind is not None else "")
        schema["properties"][name] = _without_null(schema["properties"][name]) | {"description": help_}


def _without_null(schema: JsonSchema) -> JsonSchema:
    kept = {name: value for name, value in schema.items() if name != "title"}
    if "default" in kept and kept["default"] is None:
        del kept["default"]
    options: list[JsonSchema] = [option for option in kept.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        return options[0] | kept
    return kept | ({"anyOf": options} if options else {})
