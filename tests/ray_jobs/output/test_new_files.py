"""Commands write no file among the images of a job, or among the results of its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection, SupportSection
from ray_jobs.output.new_files import check_new_place, write_new_table


def job_of(folder: Path, *, archive: str = "photos", support: str = "shots") -> tuple[Job, Store]:
    """A job in a folder, and its output there."""
    output = str(folder / "output")
    archive_section = ArchiveSection(uri=archive if "://" in archive else f"{folder}/{archive}")
    support_section = SupportSection(uri=f"{folder}/{support}", validation=f"{folder}/more")
    return Job(job=JobSection(name="a", output=output), archive=archive_section, support=support_section), Store(output)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("photos/x.csv", "the archive"),
        ("photos/deep/er/x.csv", "the archive"),
        ("photos", "the archive"),
        ("elsewhere/../photos/x.csv", "the archive"),
        ("shots/apple/x.csv", "the examples"),
        ("more/x.csv", "the images to validate with"),
        ("output/runs/a-0123/x.csv", "what the output keeps"),
        ("output/features/x.csv", "what the output keeps"),
        ("output/labels/events/x.csv", "what the output keeps"),
        ("output/audits/x.csv", "what the output keeps"),
        ("output/latest.json", "what the output keeps"),
    ],
)
def test_places_among_inputs_and_results_are_refused(tmp_path, place, what):
    job, output = job_of(tmp_path)
    with pytest.raises(JobError, match=f"--out: .*{place}.* lies in {what} .*name a place outside"):
        check_new_place("--out", str(tmp_path / place), job=job, output=output)


@pytest.mark.parametrize("place", ["x.csv", "photos-of-ada/x.csv", "output/x.csv", "output/exports/x.csv", "shots.csv"])
def test_places_beside_them_may_be_written(tmp_path, place):
    job, output = job_of(tmp_path)
    check_new_place("--out", str(tmp_path / place), job=job, output=output, is_folder=False)


def test_a_symbolic_link_hides_no_archive(tmp_path):
    job, output = job_of(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(JobError, match="lies in the archive"):
        check_new_place("--out", str(tmp_path / "link" / "x.csv"), job=job, output=output)


@pytest.mark.parametrize("archive", ["photos/*.jpg", "photos/**/*.tar"])
def test_the_folder_of_a_glob_is_part_of_the_archive(tmp_path, archive):
    job, output = job_of(tmp_path, archive=archive)
    with pytest.raises(JobError, match="lies in the archive"):
        check_new_place("--out", str(tmp_path / "photos" / "x.csv"), job=job, output=output)


def test_a_bucket_is_an_archive_however_it_is_written(tmp_path):
    job, output = job_of(tmp_path, archive="s3://bucket/photos/")
    for place in ("s3://bucket/photos/x.csv", "s3a://bucket/photos/deep/x.csv"):
        with pytest.raises(JobError, match="lies in the archive"):
            check_new_place("--out", place, job=job, output=output)
    check_new_place("--out", "s3://bucket/photos-2/x.csv", job=job, output=output)


def test_tables_that_a_job_reads_are_not_replaced(tmp_path):
    job, output = job_of(tmp_path, archive="photos.parquet", support="shots.csv")
    for name, what in (("photos.parquet", "the archive"), ("shots.csv", "the examples")):
        with pytest.raises(JobError, match=f"lies in {what}"):
            check_new_place("--out", str(tmp_path / name), job=job, output=output)
    check_new_place("--out", str(tmp_path / "x.csv"), job=job, output=output)


def test_a_folder_around_an_archive_is_not_replaced(tmp_path):
    job, output = job_of(tmp_path, archive="sorted/apple")
    with pytest.raises(JobError, match=r"sorted holds the archive .*which it would replace"):
        check_new_place("--out", str(tmp_path / "sorted"), job=job, output=output, is_folder=True)


def test_a_table_is_written_once_and_nowhere_else(tmp_path):
    job, output = job_of(tmp_path)
    (tmp_path / "photos").mkdir()
    write_new_table(tmp_path / "x.csv", b"a\n", option="--csv", job=job, output=output)
    with pytest.raises(JobError, match="exists; name another file"):
        write_new_table(tmp_path / "x.csv", b"b\n", option="--csv", job=job, output=output)
    with pytest.raises(JobError, match=r"--csv: .* lies in the archive"):
        write_new_table(tmp_path / "photos" / "x.csv", b"b\n", option="--csv", job=job, output=output)
    with pytest.raises(JobError, match="cannot be written"):
        write_new_table(tmp_path / "none" / "x.csv", b"b\n", option="--csv", job=job, output=output)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["photos", "x.csv"]
    assert (tmp_path / "x.csv").read_bytes() == b"a\n"
