"""Nothing is sent before everything was looked at, and every problem is told at once."""

from __future__ import annotations

from ray_jobs.submission.prepare import Request, ordered
from tests.ray_jobs.place import fewshot

NOBODY = "http://127.0.0.1:1"


def test_all_problems_are_told_at_once_and_exit_with_2(place):
    place.write_job(archive={"uri": str(place.folder / "absent"), "shard": 4})
    outcome = fewshot("submit", "classify", place.job, "--address", NOBODY, "--env", "HF_TOKEN=x")
    assert (outcome.code, outcome.result) == (2, None)
    messages = outcome.messages.splitlines()
    assert len(messages) == 4
    for line, words in zip(
        messages,
        ("[archive] shard: unknown key.", "[archive] uri", "--env HF_TOKEN", "no dashboard answers"),
        strict=True,
    ):
        assert words in line


def test_places_are_not_looked_at_where_only_the_cluster_may(place):
    place.write_job(archive={"uri": str(place.folder / "absent")})
    for looks, found in ((True, 1), (False, 0)):
        _, problems = ordered(Request(command="classify", job_file=place.job, looks=looks), {})
        assert len(problems) == found


def test_what_is_ordered_is_the_job_with_overrides_gpus_and_absolute_places(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    place.write_job(archive={"uri": "archive"})
    request = Request(command="classify", job_file=place.job, overrides=["support.shots=1"], gpus=2, key="tonight")
    order, problems = ordered(request, {})
    assert problems == []
    assert (order.job.archive.uri, order.job.support.shots) == (str(place.archive), 1)
    assert (order.job.cluster.clip_workers, order.job.cluster.gpus_per_worker, order.key) == (2, 1.0, "tonight")


def test_a_key_that_is_a_secret_is_refused(place):
    request = Request(command="classify", job_file=place.job, key="hunter2-hunter2")
    _, problems = ordered(request, {"DB_PASSWORD": "hunter2-hunter2"})
    assert [problem.partition(".")[0] for problem in problems] == ["--key holds a credential"]


def test_a_command_without_a_cluster_says_how_to_name_one(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for words in (("status",), ("stop", "job"), ("logs", "job")):
        outcome = fewshot(*words)
        assert outcome.code == 2
        assert "--address http://head:8265" in outcome.messages
