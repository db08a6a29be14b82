"""The proxy's faults are a function of seed and request, and requests are classified by method and path."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.s3.proxy import Plan, kind_of

KINDS = ("slow_down", "reset_before", "reset_after", "slow", "truncated")


def test_a_plan_has_its_shares_of_faults_in_any_order():
    paths = [f"/bucket/{index}" for index in range(2000)]
    plan, other = (Plan(seed=seed, at_most=1, **dict.fromkeys(KINDS, 0.1)) for seed in (3, 4))
    faults = {path: plan.fault("GET", path, 0) for path in paths}
    assert faults == {path: plan.fault("GET", path, 0) for path in reversed(paths)}
    counted = Counter(faults.values())
    assert all(150 < counted[kind] < 250 for kind in KINDS)
    assert faults != {path: other.fault("GET", path, 0) for path in paths}


def test_faults_end_and_only_responses_with_a_body_are_cut():
    plan = Plan(truncated=1.0, at_most=2, only="^/bucket/a")
    assert [plan.fault("GET", "/bucket/a", attempt) for attempt in range(3)] == ["truncated", "truncated", None]
    assert plan.fault("PUT", "/bucket/a", 0) is None
    assert plan.fault("GET", "/bucket/b", 0) is None


@pytest.mark.parametrize(
    ("method", "path", "kind", "key"),
    [
        ("GET", "/b/k%20y/z?versionId=1", "GET", "b/k y/z"),
        ("HEAD", "/b/k", "HEAD", "b/k"),
        ("GET", "/b?list-type=2&prefix=p%2F&encoding-type=url", "LIST", "b/p/"),
        ("PUT", "/b", "BUCKET", "b"),
        ("POST", "/b/k?uploads", "UPLOAD", "b/k"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "PART", "b/k"),
        ("POST", "/b/k?uploadId=u", "COMPLETE", "b/k"),
        ("DELETE", "/b/k?uploadId=u", "ABORT", "b/k"),
        ("DELETE", "/b/k", "DELETE", "b/k"),
    ],
)
def test_a_request_is_classified_by_method_and_path(method, path, kind, key):
    assert kind_of(method, path) == (kind, key)
