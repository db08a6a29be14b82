"""Drafted TOML reads back as the values it was made of, whatever is in them, and comments stay comments."""

from __future__ import annotations

import tomllib
from datetime import date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.drafting.toml_text import (
    Section,
    Setting,
    override_sections,
    render,
    toml_key,
    toml_value,
    without_queries,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(value=values)
def test_a_value_reads_back_as_itself(value):
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


@pytest.mark.parametrize("value", [date(2026, 5, 1), time(7, 30), datetime(2026, 5, 1, 7, 30)])
def test_dates_read_back_as_themselves(value):
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


def test_a_value_that_toml_lacks_is_refused():
    with pytest.raises(TypeError, match="no value for NoneType"):
        toml_value(None)


@given(key=texts)
def test_a_key_reads_back_as_itself(key):
    assert tomllib.loads(f"{toml_key(key)} = 1") == {key: 1}


@given(header=texts, comment=texts, value=texts, is_active=st.booleans())
def test_comments_change_no_value(header, comment, value, is_active):
    settings = (Setting("kept", value, comment), Setting("other", value, comment, is_active))
    text = render([header], [Section("first", settings, comment)])
    assert tomllib.loads(text) == {"first": {"kept": value} | ({"other": value} if is_active else {})}


def test_a_section_without_active_settings_is_commented_out():
    text = render([], [Section("cluster", (Setting("address", "auto", "", False),), "why")])
    assert [line[:11] for line in text.split("\n") if line] == ["# [cluster]", "# address ="]
    assert tomllib.loads(text) == {}


@given(values=st.dictionaries(texts, st.dictionaries(texts, values, min_size=1, max_size=3), max_size=3))
def test_overrides_win_and_leave_the_rest_alone(values):
    sections = [
        Section("clip", (Setting("model", "embedded", "why"), Setting("model", "ViT-B-32", "", False))),
        Section("cluster", (Setting("address", "auto", "", False),)),
    ]
    expected = {"clip": {"model": "embedded"} | values.get("clip", {})}
    read = tomllib.loads(render([], override_sections(sections, values)))
    assert read == expected | {name: content for name, content in values.items() if name != "clip"}


def test_an_override_replaces_lines_to_uncomment_and_outdated_comments():
    settings = (
        Setting("model", "embedded", "no download"),
        Setting("model", "ViT-B-32", "", False),
        Setting("threads", 1, "as it was"),
        Setting("precision", "bf16", "", False),
    )
    values = {"model": "ViT-H-14", "threads": 1, "precision": "fp16", "batch_size": 2}
    (section,) = override_sections([Section("clip", settings)], {"clip": values})
    assert section.settings == (
        Setting("model", "ViT-H-14"),
        Setting("threads", 1, "as it was"),
        Setting("precision", "fp16"),
        Setting("batch_size", 2),
    )


def test_query_strings_of_web_addresses_are_left_out_and_patterns_are_not():
    settings = (Setting("uri", "https://host/a.tar?signature=secret"), Setting("glob", "s3://bucket/part-?.tar"))
    (section,) = without_queries([Section("archive", settings)])
    assert [setting.value for setting in section.settings] == ["https://host/a.tar", "s3://bucket/part-?.tar"]
