"""Submitting twice is harmless, and the outcome of the job is the outcome of the command."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster import Retry
from cluster.errors import ClusterError
from ray_jobs.console.json_result import RESULT_LINE, format_result
from ray_jobs.console.progress import Reporter
from ray_jobs.errors import JobError
from ray_jobs.job_file.sections import ArchiveSection, Job, JobSection, SupportSection
from ray_jobs.submission.client import JobState
from ray_jobs.submission.control import list_jobs, print_log, stop_job
from ray_jobs.submission.payload import Payload
from ray_jobs.submission.submit import submit_job
from tests.ray_jobs.submission.clusters import ELSEWHERE, Cluster, Connection, running

PAYLOAD = Payload(
    command="classify",
    job=Job(
        job=JobSection(name="a", output="s3://bucket/out"),
        archive=ArchiveSection(uri="s3://bucket/photos"),
        support=SupportSection(uri="s3://bucket/examples"),
    ),
)
RESULT = {"complete": True, "images": 3}
LOG = "embedding\n" + format_result(RESULT, {RESULT_LINE: "1"})
QUICK = Retry(first_delay_s=0.001, max_delay_s=0.001)
BRIEF = replace(QUICK, deadline_s=0.2)
"""For what never comes."""


def submit(cluster, payload=PAYLOAD, retry=QUICK, **options):
    return submit_job(payload, cluster, Reporter(), retry=retry, **options)


def test_a_job_that_runs_is_not_submitted_again():
    cluster = Cluster()
    first = submit(cluster, wait=False)
    assert submit(cluster, wait=False).submission == first.submission
    assert list(cluster.jobs) == [first.submission]


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_is_over_is_submitted_again(status):
    cluster = Cluster(status=status)
    first = submit(cluster, wait=False).submission
    cluster.end(first)
    second = submit(cluster, wait=False).submission
    assert (first[-3:], second[-3:], first[:-1]) == ("-a1", "-a2", second[:-1])


def test_a_submission_whose_answer_was_lost_is_one_submission():
    cluster = Cluster()
    cluster.all = lambda: list(cluster.jobs.values())  # Looking succeeds; what fails is the submission itself.
    cluster.refusals = 3
    submit(cluster, wait=False)
    assert len(cluster.jobs) == 1


def test_a_cluster_that_never_gets_ready_is_given_up():
    with pytest.raises(ClusterError, match="No available agent"):
        submit(Cluster(refusals=10**9), retry=BRIEF, wait=False)


def test_the_result_of_the_job_is_the_result_of_waiting(capfd):
    cluster = Cluster(text=LOG, connections=[Connection(5, "break")])
    result = submit(cluster)
    assert result == RESULT | {"submission": next(iter(cluster.jobs))}
    assert "embedding\n" in capfd.readouterr().err


def test_an_incomplete_job_has_a_result():
    partial = RESULT | {"complete": False}
    cluster = Cluster(text=format_result(partial, {RESULT_LINE: "1"}), status="FAILED", exit_code=1)
    assert submit(cluster)["complete"] is False


@pytest.mark.parametrize(
    ("status", "exit_code", "error", "messages"),
    [
        ("FAILED", 2, JobError, "exit code 2; its log says why"),
        ("FAILED", 1, ClusterError, "exit code 1.*submit the job again to resume"),
        ("FAILED", None, ClusterError, "JOB_SUPERVISOR_ACTOR_DIED: it died"),
        ("STOPPED", None, ClusterError, "was stopped; finished work is kept, submit the job again to resume"),
        ("SUCCEEDED", 0, ClusterError, "its log has no result"),
    ],
)
def test_a_job_without_a_result_ends_the_command_as_the_job_ended(status, exit_code, error, messages):
    cluster = Cluster(text="words\n", status=status, exit_code=exit_code)
    submitted = submit(cluster, wait=False).submission
    cluster.jobs[submitted] = replace(
        cluster.jobs[submitted], error_type="JOB_SUPERVISOR_ACTOR_DIED", message="it died\n"
    )
    with pytest.raises(error, match=messages):
        submit(cluster)


def test_a_failed_runtime_environment_is_a_wrong_setup():
    state = JobState(id="job", status="FAILED", error_type="RUNTIME_ENV_SETUP_FAILURE", message="no space left")
    cluster = Cluster(jobs={"job": state})
    assert print_log("job", cluster, lambda _: None, to_the_end=True) == 2


def test_local_paths_are_refused_unless_shared():
    job = replace(PAYLOAD.job, job=JobSection(name="a", output="/data/out"))
    payload = replace(PAYLOAD, job=job)
    cluster = Cluster(nodes=(ELSEWHERE,))
    with pytest.raises(JobError, match=r"\[job\] output: /data/out is a path of this machine"):
        submit(cluster, payload, wait=False)
    assert cluster.jobs == {}
    submit(cluster, payload, wait=False, shared_paths=True)
    submit(Cluster(), payload, wait=False)  # All its nodes are this machine.


def test_a_stopped_job_is_waited_for():
    cluster = running(connections=[Connection(0, "end")])
    assert stop_job("job", cluster, Reporter(), poll=QUICK).status == "STOPPED"


def test_stopping_what_is_over_changes_nothing():
    cluster = running(connections=[])
    assert stop_job("job", cluster, Reporter(), poll=QUICK).status == "SUCCEEDED"


@pytest.mark.parametrize(("status", "messages"), [("RUNNING", "job is still running"), ("PENDING", "has not started")])
def test_a_job_that_does_not_stop_is_reported(status, messages):
    cluster = running(connections=[Connection(0, "end")], stops=False)
    cluster.jobs["job"] = replace(cluster.jobs["job"], status=status)
    with pytest.raises(ClusterError, match=messages):
        stop_job("job", cluster, Reporter(), poll=BRIEF)


def test_jobs_are_listed_with_their_metadata():
    cluster = Cluster()
    submitted = submit(cluster, replace(PAYLOAD, key="tonight"), wait=False).submission
    (listed,) = list_jobs(cluster).jobs
    assert (listed.submission, listed.name, listed.output) == (submitted, "a", "s3://bucket/out")
    assert cluster.jobs[submitted].metadata["key"] == "tonight"
    assert list_jobs(cluster, submitted).jobs == (listed,)
    json.dumps(listed.to_json())


def test_a_log_is_printed_so_far_or_to_its_end():
    cluster = running(text="a\nb\n", connections=[Connection(2, "end")], status="FAILED", exit_code=2)
    shown: list[str] = []
    assert print_log("job", cluster, shown.append, to_the_end=False) == 0
    assert print_log("job", cluster, shown.append, to_the_end=True) == 2
    assert "".join(shown) == 2 * "a\nb\n"
