"""The copy of a drafted job file is recognised as long as nobody edits it, and holds no signature of a URL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.drafting.draft import draft_job
from ray_jobs.drafting.draft_arguments import DraftArguments
from ray_jobs.drafting.job_copy import is_job_copy, job_copy, keep_job_file
from ray_jobs.errors import JobError
from ray_jobs.job_file.reading import parse_job, resolved
from tests.ray_jobs.place import Place, written
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("drafted"), write_tiny_clip(tmp_path_factory.mktemp("clip"))).fill(images=3)
    return draft_job(
        DraftArguments(
            archive=str(place.archive),
            examples=str(place.examples),
            output=str(place.output),
            overrides=(f"clip.model={place.clip}", "support.seed=7"),
        )
    )


def test_a_copy_reads_as_the_job_that_was_drafted(draft):
    job, problems = parse_job(job_copy(draft), "copy")
    assert problems == []
    assert resolved(job) == resolved(draft.job)
    assert job.support.seed == 7


def test_a_copy_is_written_once(draft):
    path = keep_job_file(draft)
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        assert file.read() == job_copy(draft)
    before = written(Path(path).parent)
    assert keep_job_file(draft) == path
    assert written(Path(path).parent) == before


def test_an_output_that_cannot_be_written_to_is_a_mistake(draft):
    job = replace(draft.job, job=replace(draft.job.job, output="/proc/nope"))
    with pytest.raises(JobError, match=r"--output: could not write /proc/nope/job\.toml: .*choose another location"):
        keep_job_file(replace(draft, job=job))


def test_an_edited_file_stays_only_if_it_is_the_same_job_without_a_problem(draft, tmp_path):
    job = replace(draft.job, job=replace(draft.job.job, output=str(tmp_path)))
    moved = replace(draft, job=job, arguments=replace(draft.arguments, output=str(tmp_path)))
    path = tmp_path / "job.toml"
    same = "# mine\n" + job_copy(moved)
    path.write_text(same, encoding="utf-8")
    assert keep_job_file(moved) == str(path)
    assert path.read_text(encoding="utf-8") == same
    wrong = f"{same}\n[nonsense]\nx = 1\n"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(JobError, match="is another job file, written or edited by hand"):
        keep_job_file(moved)
    assert path.read_text(encoding="utf-8") == wrong


@given(data=st.data())
def test_an_edited_copy_is_no_copy(draft, data):
    text = job_copy(draft)
    assert is_job_copy(text)
    position = data.draw(st.integers(text.index("\n") + 1, len(text) - 1))
    char = data.draw(st.characters(exclude_characters=text[position], exclude_categories=["Cs"]))
    assert not is_job_copy(text[:position] + char + text[position + 1 :])
    assert not is_job_copy(text[:position] + text[position + 1 :])
    assert not is_job_copy(text + char)


@pytest.mark.parametrize("text", ["", "\n", "# Written by fewshot classify", '[job]\nname = "x"\n'])
def test_another_file_is_no_copy(text):
    assert not is_job_copy(text)


def test_a_copy_holds_no_query_string(draft):
    signed = replace(draft, arguments=replace(draft.arguments, archive="https://host/a.tar?signature=abcdef"))
    text = job_copy(signed)
    assert "https://host/a.tar" in text
    assert "abcdef" not in text
