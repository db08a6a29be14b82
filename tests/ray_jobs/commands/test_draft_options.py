"""An archive with examples takes the place of a job file: the same run, whose job file lies beside its results."""

from __future__ import annotations

import pytest

from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.place import fewshot, picture, put, written


@pytest.fixture
def here(place, monkeypatch):
    """The folder of the place, with `archive/` and `examples/` in it, and settings that make a job small."""
    monkeypatch.chdir(place.folder)
    settings = (f"clip.model={place.clip}", "clip.batch_size=4", "cluster.mode=process", "support.views=1")
    return place.folder, [word for setting in settings for word in ("--set", setting)]


def classify(*words):
    return fewshot("classify", "archive", "--examples", "examples", *words)


@pytest.mark.slow
def test_a_run_without_a_job_file_is_the_same_as_with_its_copy(here):
    folder, settings = here
    first = classify(*settings)
    assert (first.code, first.result["images"], first.result["did"]) == (0, 20, "everything")
    assert first.run.parent == folder / "runs/archive/runs"
    assert f"job file: {folder}/runs/archive/job.toml" in first.messages
    before = written(folder)
    again = fewshot("classify", "runs/archive/job.toml")
    assert (again.code, again.result["did"], again.run) == (0, "nothing", first.run)
    repeated = classify(*settings)
    assert (repeated.code, repeated.result["did"], repeated.run) == (0, "nothing", first.run)
    assert written(folder) == before
    assert "nothing to do" in repeated.messages


@pytest.mark.slow
def test_the_copy_is_a_commented_job_file(here):
    _, settings = here
    classify(*settings, "--output", "out", "--name", "mine")
    job, problems = read_job("out/job.toml", needs=("archive", "support"))
    assert problems == []
    assert (job.job.name, job.job.output, job.archive.uri, job.support.uri) == ("mine", "out", "archive", "examples")
    assert (job.support.views, job.clip.batch_size, job.cluster.mode) == (1, 4, "process")


@pytest.mark.slow
def test_a_plan_without_a_job_file_writes_nothing_and_names_the_same_run(here):
    folder, settings = here
    before = written(folder)
    plan = fewshot("plan", "archive", "--examples", "examples", "--no-probe", *settings)
    assert (plan.code, plan.result["finished"], plan.result["archive"]["images"]) == (0, False, 20)
    assert written(folder) == before
    assert plan.result["run"] == str(classify(*settings).run)


@pytest.mark.slow
def test_a_copy_is_replaced_and_an_edited_one_is_not(here):
    folder, settings = here
    classify(*settings)
    copy = folder / "runs/archive/job.toml"
    text = copy.read_text()
    assert classify(*settings, "--set", "support.shots=1").code == 0
    assert copy.read_text() != text
    assert "shots = 1 " in copy.read_text()
    edited = text.replace("views = 1", "views = 2")
    copy.write_text(edited)
    refused = classify(*settings)
    assert refused.code == 2
    assert f"{copy} is another job file, written or edited by hand" in refused.messages
    assert copy.read_text() == edited
    copy.write_text("# my comment\n" + text)
    assert classify(*settings).code == 0
    assert copy.read_text() == "# my comment\n" + text


@pytest.mark.parametrize("text", ["[job\n", "", '[job]\nname = "x"\noutput = "y"\n[clip]\nno_such_key = 1\n'])
def test_what_is_no_job_file_is_not_replaced_either(here, text):
    folder, settings = here
    put(folder / "runs/archive/job.toml", text.encode())
    assert classify(*settings).code == 2
    assert (folder / "runs/archive/job.toml").read_text() == text


@pytest.mark.slow
def test_a_drafted_job_takes_the_suggested_settings(here, monkeypatch):
    _, settings = here
    monkeypatch.setattr("ray_jobs.drafting.suggestions.MAX_SHOTS", 1)
    outcome = classify(*settings)
    assert outcome.code == 0
    assert read_job("runs/archive/job.toml")[0].support.shots == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["archive"], "archive is no job file (*.toml). To classify an archive, add its labelled examples: "),
        (["job.toml", "--examples", "examples"], "--examples: job.toml is a job file and says this itself"),
        (["job.toml", "--output", "out"], "override it with --set job.output=VALUE"),
        (["job.toml", "--name", "x"], "override it with --set job.name=VALUE"),
        (["absent.toml"], "there is no job file absent.toml"),
        (["archive", "--examples", "job.toml"], "--examples: job.toml is a job file; expected images"),
        (["archive", "--examples", "absent"], "error: --examples: no examples: "),
        (["absent", "--examples", "examples"], "error: ARCHIVE: "),
        (["archive", "--examples", "examples", "--output", "archive/x"], "error: --output: "),
        (["archive", "--examples", "examples", "--set", "support.uri=x"], "--set support.uri: give it as --examples"),
    ],
)
@pytest.mark.parametrize("command", ["classify", "plan"])
def test_arguments_that_do_not_go_together_are_told(here, command, words, problem):
    folder, _ = here
    before = written(folder)
    outcome = fewshot(command, *words)
    assert (outcome.code, outcome.result) == (2, None)
    assert problem in outcome.messages
    assert written(folder) == before


def test_every_contradiction_is_told_at_once(here):
    outcome = fewshot("classify", "job.toml", "--examples", "examples", "--output", "out", "--name", "x")
    assert len(outcome.messages.splitlines()) == 3


@pytest.mark.slow
def test_a_new_example_is_found_by_the_next_run(here):
    folder, settings = here
    classify(*settings)
    put(folder / "examples/blue/new.jpg", picture("blue", 5))
    outcome = classify(*settings)
    assert (outcome.code, outcome.result["did"]) == (0, "the rest")
