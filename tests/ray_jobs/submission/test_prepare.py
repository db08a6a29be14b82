"""Every problem is reported at once, before anything is sent."""

from __future__ import annotations

from ray_jobs.submission.prepare import SubmitOptions, prepare
from tests.ray_jobs.place import fewshot

CLOSED_PORT = "http://127.0.0.1:1"


def test_all_problems_are_reported_at_once(place):
    place.write_job(archive={"uri": str(place.folder / "absent"), "shard": 4})
    outcome = fewshot("submit", "classify", place.job, "--address", CLOSED_PORT, "--env", "HF_TOKEN=x")
    assert (outcome.code, outcome.result) == (2, None)
    messages = outcome.messages.splitlines()
    assert len(messages) == 4
    for line, words in zip(
        messages,
        ("[archive] shard: unknown key.", "[archive] uri", "--env HF_TOKEN", "no response from"),
        strict=True,
    ):
        assert words in line


def test_paths_are_not_checked_with_no_check(place):
    place.write_job(archive={"uri": str(place.folder / "absent")})
    for check, found in ((True, 1), (False, 0)):
        _, problems = prepare(SubmitOptions(command="classify", job_file=place.job, check=check), {})
        assert len(problems) == found


def test_the_payload_has_overrides_gpus_and_absolute_paths(place, monkeypatch):
    monkeypatch.chdir(place.folder)
    place.write_job(archive={"uri": "archive"})
    options = SubmitOptions(
        command="classify", job_file=place.job, overrides=["support.shots=1"], gpus=2, key="tonight"
    )
    payload, problems = prepare(options, {})
    assert problems == []
    assert (payload.job.archive.uri, payload.job.support.shots) == (str(place.archive), 1)
    assert (payload.job.cluster.clip_workers, payload.job.cluster.gpus_per_worker, payload.key) == (2, 1.0, "tonight")


def test_a_key_that_is_a_secret_is_refused(place):
    options = SubmitOptions(command="classify", job_file=place.job, key="hunter2-hunter2")
    _, problems = prepare(options, {"DB_PASSWORD": "hunter2-hunter2"})
    assert [problem.partition(".")[0] for problem in problems] == ["--key contains a credential"]


def test_a_missing_address_is_reported_with_an_example(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for words in (("status",), ("stop", "job"), ("logs", "job")):
        outcome = fewshot(*words)
        assert outcome.code == 2
        assert "--address http://head:8265" in outcome.messages
        assert ("fewshot status OUTPUT" in outcome.messages) == (words == ("status",))
