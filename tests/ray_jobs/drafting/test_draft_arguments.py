"""Names and outputs follow from the archive; an output never lies inside what is read."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.drafting.draft_arguments import DraftArguments, default_name, default_output
from ray_jobs.job_file.sections import JobSection
from ray_jobs.output.new_files import lies_inside


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        ("photos", "photos"),
        ("photos/", "photos"),
        ("data/my photos (2024)", "my-photos-2024"),
        ("/data/photos/../scans", "scans"),
        ("shop.tar.gz", "shop"),
        ("shop.TGZ", "shop"),
        ("shop.parquet", "shop"),
        ("shop.tar.zst", "shop"),
        ("shop.csv", "shop"),
        ("data/photos/**/*.jpg", "photos"),
        ("v1.2", "v1.2"),
        ("data/shards/part-*.tar", "shards"),
        ("s3://bucket/archive/2024/", "2024"),
        ("s3://bucket", "bucket"),
        ("https://host/sets/birds.tar?signature=x/y", "birds"),
        ("файлы", "файлы"),
        ("cafe\u0301", "café"),
        ("***", "archive"),
        ("/", "archive"),
        ("...", "archive"),
    ],
)
def test_a_job_is_named_after_its_archive(archive, name, tmp_path, monkeypatch):
    (tmp_path / "archive").mkdir()
    monkeypatch.chdir(tmp_path / "archive")
    assert default_name(archive) == name


def test_the_folder_one_is_in_has_a_name(tmp_path, monkeypatch):
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    assert (default_name("."), default_name("file://.")) == ("birds", "birds")


@given(archive=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_every_archive_gives_a_valid_name(archive):
    assert JobSection(name=default_name(archive), output="runs").name


def test_the_output_is_below_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_output("birds", ("photos", "s3://bucket/examples")) == "runs/birds"


@pytest.mark.parametrize(
    ("inside", "inputs"),
    [
        ("all/photos", ("all/photos", "all/examples")),
        ("all/photos", (".", "../examples")),
        ("all/photos/2024", ("all/photos", "all")),
        ("all", ("all/photos", "all")),
        ("all/linked", ("all/photos", "all/examples")),
    ],
)
def test_an_output_inside_the_inputs_moves_beside_them(inside, inputs, tmp_path, monkeypatch):
    (tmp_path / "all/photos/2024").mkdir(parents=True)
    (tmp_path / "all/examples").mkdir()
    (tmp_path / "all/linked").symlink_to(tmp_path / "all/photos")
    monkeypatch.chdir(tmp_path / inside)
    inputs = tuple(place if place.startswith(".") else str(tmp_path / place) for place in inputs)
    output = default_output("birds", inputs)
    assert not any(lies_inside(output, place) for place in inputs)
    assert output.endswith("runs/birds")
    assert lies_inside(output, str(tmp_path))


@pytest.mark.parametrize(
    ("place", "folder", "expected"),
    [
        ("a/b", "a", True),
        ("a", "a/", True),
        ("ab", "a", False),
        ("a/../c", "a", False),
        ("/anything", "/", True),
        ("s3://bucket/a/b", "s3a://bucket/a", True),
        ("s3://bucket/ab", "s3://bucket/a", False),
        ("s3://bucket/a", "bucket/a", False),
    ],
)
def test_a_place_lies_inside_by_whole_names(place, folder, expected):
    assert lies_inside(place, folder) is expected


def test_every_problem_of_the_arguments_is_listed():
    arguments = DraftArguments(
        archive=" ",
        examples="old/job.toml",
        output="s3://user:password@host/x",
        name="a/b",
        examples_option="--examples",
    )
    empty, password, job_file, name = arguments.problems()
    assert empty == "ARCHIVE: it is empty; expected a path or a URL"
    assert password.startswith("--output: a URL with a password in it")
    assert job_file.startswith("--examples: old/job.toml is a job file")
    assert name.startswith("--name: expected letters, digits")


def test_a_home_folder_that_does_not_exist_is_refused():
    arguments = DraftArguments(archive="~nobody-of-this-name/photos", examples="~/examples")
    assert arguments.problems() == [
        "ARCHIVE: there is no home folder ~nobody-of-this-name; write ./~nobody-of-this-name/photos if this is a name"
    ]


def test_a_path_that_no_text_holds_is_refused():
    arguments = DraftArguments(archive=os.fsdecode(b"photos\xff"), examples="examples")
    (problem,) = arguments.problems()
    assert "a job file cannot hold this path" in problem


def test_problems_of_the_job_are_told_of_the_arguments():
    arguments = DraftArguments(archive="photos", examples="examples")
    assert arguments.in_their_terms("[archive] uri: nothing") == "ARCHIVE: nothing"
    assert arguments.in_their_terms("[support] uri: nothing") == "EXAMPLES: nothing"
    assert arguments.in_their_terms("[clip] model: nothing") == "[clip] model: nothing"


def test_the_output_lies_beside_the_folder_of_a_glob(tmp_path, monkeypatch):
    (folder := tmp_path / "photos").mkdir()
    monkeypatch.chdir(folder)
    assert default_output("birds", ("**/*.jpg", "../examples")) == str(tmp_path / "runs/birds")


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (
            "ARCHIVE: 2 links; set archive.follow_links = true to follow them",
            "links; --set archive.follow_links=true to",
        ),
        ('expected one of them: archive.form = "tar" reads the .tar files', "them: --set archive.form=tar reads"),
        ('such as uri = "photos/*.tar"', 'such as uri = "photos/*.tar"'),
        ('photos.form = "tar"', 'photos.form = "tar"'),
    ],
)
def test_keys_of_a_job_file_are_shown_as_options(problem, shown):
    arguments = DraftArguments(archive="photos", examples="examples")
    assert shown in arguments.in_their_terms(problem)
    assert replace(arguments, set_option=None).in_their_terms(problem) == problem
