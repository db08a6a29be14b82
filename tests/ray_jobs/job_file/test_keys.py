"""Sections explain their keys: in words for people, in the reference page, and without a key left out."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field

from ray_jobs.job_file.field_types import Count, Folder, OpenFraction, Seed
from ray_jobs.job_file.keys import expected, item_of, key_of, keys_of, table_in, title_and_summary
from ray_jobs.job_file.reading import SECTIONS
from tools.job_file_reference import PAGE, make_reference


@dataclass(frozen=True)
class Base:
    """Section [base]: what the others share.

    Attributes:
        size: Side in pixels.
        name: Overridden below.
    """

    size: Count = 3
    name: str = ""


@dataclass(frozen=True)
class Table(Base):
    """Section [table]: an example
    of a section.

    It has a second
    paragraph.

    Attributes:
        name: Name of it: with a colon,
            and on two lines.
        from_: Aliased.
        inner: Others.
    """

    name: str = "x"
    from_: Annotated[str | None, Field(alias="from")] = None
    inner: tuple[Base, ...] = field(default_factory=tuple)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (bool, "true or false"),
        (str | None, "a string"),
        (float, "a number"),
        (Count | None, "an integer of at least 1"),
        (OpenFraction, "a number above 0 and below 1"),
        (Annotated[int, Field(ge=2, le=1000, strict=True)], "an integer of at least 2 and at most 1000"),
        (Seed, "an integer of 64 bits"),
        (Annotated[Seed, Field(description="an even number")], "an even number"),
        (Folder | None, "an absolute path"),
        (Literal["a"], '"a"'),
        (Literal["a", "b", "c"] | None, '"a", "b" or "c"'),
        (Count | Literal["auto"] | None, 'an integer of at least 1, or "auto"'),
        (tuple[str, ...], "a list, each a string"),
        (
            Annotated[tuple[Count, ...], Field(min_length=1)] | None,
            "a list of at least one item, each an integer of at least 1",
        ),
        (dict[str, Any], "a table"),
        (dict[str, str], "a table, each value a string"),
        (Table | None, "a table"),
    ],
)
def test_types_are_described_in_words(annotation, words):
    assert expected(annotation) == words


def test_keys_are_explained_in_the_docstring_of_their_class_or_its_bases():
    keys = keys_of(Table)
    assert {name: key.help for name, key in keys.items()} == {
        "size": "Side in pixels.",
        "name": "Name of it: with a colon, and on two lines.",
        "from": "Aliased.",
        "inner": "Others.",
    }
    assert [key.default for key in keys.values()] == [3, "x", None, ()]
    assert not any(key.is_required for key in keys.values())


def test_a_section_has_a_title_and_a_summary():
    assert title_and_summary(Table) == ("[table]", "An example of a section.\n\nIt has a second paragraph.")


def test_types_within_types_are_found():
    assert table_in(tuple[Table, ...] | None) is Table
    assert table_in(dict[str, str]) is None
    assert table_in(Annotated[str, AfterValidator(str.strip)] | None) is None  # The validator is a dataclass.
    assert (item_of(dict[str, int]), item_of(tuple[str, ...] | None), item_of(int)) == (int, str, None)
    assert (key_of(dict[str, int]), key_of(tuple[str, ...])) == (str, None)


def tables(table):
    """A section and the tables in it."""
    inner = [kind for key in keys_of(table).values() if (kind := table_in(key.annotation)) is not None]
    return [table, *(found for kind in inner for found in tables(kind))]


@pytest.mark.parametrize("table", [found for section in SECTIONS.values() for found in tables(section)])
def test_every_key_of_every_section_is_explained_in_sentences(table):
    title, summary = title_and_summary(table)
    assert re.fullmatch(r"\[\[?[a-z.]+\]?\]", title)
    assert summary.endswith(".")
    keys = keys_of(table)
    assert len(keys) == len(fields(table))
    for key in keys.values():
        assert key.help.endswith("."), key.name
        assert key.help[0].isupper() or key.help[0] == '"', key.name
        assert "None" not in key.help, key.name
        if key.default is None and key.name not in ("description", "pretrained", "aws"):
            assert "Not set: " in key.help, key.name
        assert key.is_required == (key.default is MISSING)


def test_the_reference_page_is_what_make_docs_writes():
    assert PAGE.read_text(encoding="utf-8") == make_reference()


def test_the_reference_page_has_a_row_for_every_key():
    page = PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\[\[?[a-z.]+\]?\])`\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    for section in SECTIONS.values():
        for table in tables(section):
            rows = re.findall(r"^\| `(\w+)` \|", sections[title_and_summary(table)[0]], re.M)
            assert rows == list(keys_of(table))


def test_the_links_of_the_reference_page_lead_to_headings():
    page = PAGE.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w-]", "", heading) for heading in re.findall(r"^## `(.*)`$", page, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) == anchors
