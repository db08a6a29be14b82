"""A log is shown once and whole, however the connections break."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Retry
from cluster.errors import ClusterError
from ray_jobs.errors import DetachedError, JobError
from ray_jobs.submission.follow import FollowTimeouts, follow
from tests.ray_jobs.submission.clusters import Connection, running

RETRY = Retry(first_delay_s=0.001, max_delay_s=0.001)
HASTY = FollowTimeouts(silence_s=0.002, retry=RETRY)

connections = st.builds(
    Connection,
    characters=st.integers(0, 60),
    ending=st.sampled_from(["break", "silence", "end"]),
    piece=st.integers(1, 20),
)


@given(text=st.text(max_size=60), script=st.lists(connections, max_size=6))
def test_every_character_is_shown_once_and_in_order(text, script):
    shown: list[str] = []
    state = follow(running(text=text, connections=script), "job", shown.append, timeouts=HASTY)
    assert ("".join(shown), state.status) == (text, "SUCCEEDED")
    assert all(shown)


def test_a_cluster_that_does_not_answer_for_a_moment_is_tried_again():
    cluster = running(text="a line\n", connections=[Connection(3, "break")], refusals=4)
    shown: list[str] = []
    assert follow(cluster, "job", shown.append, timeouts=HASTY).status == "SUCCEEDED"
    assert "".join(shown) == "a line\n"


def test_a_lost_cluster_is_given_up_with_the_command_to_follow_again():
    timeouts = FollowTimeouts(retry=replace(RETRY, deadline_s=0.2))
    with pytest.raises(
        ClusterError, match=r"may go on. To follow it again: fewshot logs job --follow --address http://127"
    ):
        follow(running(refusals=10**9), "job", lambda _: None, timeouts=timeouts)


def test_a_long_quiet_job_is_not_given_up():
    """Each connection is silent for half of what a cluster may be, and all of them for ten times as long."""
    connections = 20
    cluster = running(text="x", connections=[Connection(1, "silence")] * connections)
    retry = replace(RETRY, deadline_s=2.0, clock=lambda: float(connections - len(cluster.connections)))
    assert follow(cluster, "job", lambda _: None, timeouts=replace(HASTY, retry=retry)).is_over


def test_an_interrupt_leaves_the_job_running():
    cluster = running(text="a line\n", connections=[Connection(7, "silence")])

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(DetachedError, match=r"job goes on.*fewshot logs job --follow.*fewshot stop job --address http"):
        follow(cluster, "job", interrupted, timeouts=HASTY)
    assert cluster.jobs["job"].status == "RUNNING"


def test_an_unknown_job_is_not_waited_for():
    with pytest.raises(JobError, match="no job other"):
        follow(running(), "other", lambda _: None, timeouts=HASTY)
