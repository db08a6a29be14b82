"""Types of values in job files, each with its range, and how strictly tables are read.

A description, where there is one, completes "expected …" in error messages and in the reference of all keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

from fewshot.errors import UnknownNameError
from fewshot.prompt_templates import DATA_SET_TEMPLATES

STRICT = ConfigDict(extra="forbid", strict=False)
"""Of every table: unknown keys are refused."""

Amount = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
BatchSize = Annotated[int, Field(ge=1, le=65_536, strict=True)]
Threads = Annotated[int, Field(ge=1, le=1024, strict=True)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$", description='"auto", "cpu", "cuda" or "cuda:N"')]
WorkerCount = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Share = Annotated[float, Field(ge=0, le=10_000, strict=True)]
"""Of CPUs or GPUs for a worker."""
Gibibytes = Annotated[float, Field(gt=0, le=1_000_000, strict=True)]
ErrorRate = Annotated[float, Field(ge=1e-9, lt=1, strict=True)]
"""Smaller ones would take billions of held-out examples."""
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
OpenFraction = Annotated[float, Field(gt=0, lt=1, strict=True)]
PositiveFraction = Annotated[float, Field(gt=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True, description="an integer of 64 bits")]
"""Random streams are named by eight bytes."""

PathOrUrl = Annotated[str, Field(min_length=1, description="a path or URL")]
"""Not empty: an empty path, such as a variable that is not set, would be the current folder."""
SchemeName = Literal["abfs", "abfss", "az", "gcs", "gs", "http", "https", "s3", "s3a"]


def _named_templates(value: Any) -> Any:
    """Return the templates of a data set in place of its name; other values are returned as they are."""
    if not isinstance(value, str):
        return value
    if "{}" in value:
        raise ValueError(
            f"expected a list of templates or the name of a data set, got a template alone: use [{value!r}]"
        )
    if value not in DATA_SET_TEMPLATES:
        raise ValueError(str(UnknownNameError("templates", value, list(DATA_SET_TEMPLATES))))
    return DATA_SET_TEMPLATES[value]


Templates = Annotated[
    tuple[str, ...],
    BeforeValidator(_named_templates, json_schema_input_type=Annotated[tuple[str, ...], Field(min_length=1)] | str),
    Field(min_length=1, description="a list of at least one item, each a string, or the name of a data set"),
]
"""Of prompts for class names."""

Hyperparameters: TypeAlias = dict[str, Any]
"""Of a method, which checks names and values itself."""

Folder = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+$", description="an absolute path")]
ObjectName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="a Kubernetes name (lower-case letters, digits, '-' and '.')",
    ),
]
LabelKey = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        description="the key of a Kubernetes label",
    ),
]
LabelValue = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        description="the value of a Kubernetes label (at most 63 letters, digits, '-', '_' and '.')",
    ),
]
