"""The whole job on a real S3 server: the bytes of a local run, in few requests, through any trouble that passes."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import acquire_lease
from ray_jobs.report.image_sample import SHARDS as SHARDS_SHOWN
from ray_jobs.report.image_sample import SHOWN
from ray_jobs.results import RunPlan
from tests.cluster.records.archives import tar_bytes
from tests.ray_jobs.place import CLASSES, Place, fewshot, kill_again_and_again, put, rows_alone
from tests.s3.proxy import Plan
from tests.tiny_diffusion import write_tiny_diffusion

pytestmark = pytest.mark.s3

IMAGES = 60
TROUBLE = Plan(seed=1, slow_down=0.04, reset_before=0.04, reset_after=0.04, slow=0.04, truncated=0.06, delay_s=0.3)

UNHURRIED = {"storage.lease_s": 3600}
"""A lease is renewed three times in that time, which takes requests: on a slow machine, more of them than on a fast."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_clip):
    """An archive in small shards."""
    return Place(tmp_path_factory.mktemp("s3"), tiny_clip).fill(images=IMAGES)


@pytest.fixture(scope="module")
def expected(place):
    """What a run on this machine writes: rows of the parts in the archive's order."""
    outcome = place.classify()
    assert outcome.code == 0
    return local_parts(outcome)


@pytest.fixture
def uploaded(place, bucket):
    """The same archive and examples in the bucket, and what sends a job there."""
    bucket.upload(place.examples, "examples")
    return {"archive.uri": bucket.upload(place.archive, "archive"), "support.uri": bucket.url("examples")}


def settings(bucket, **changes):
    there = {"job.output": bucket.url("output"), "storage.endpoint": bucket.storage.endpoint, **UNHURRIED}
    return [f"{key}={value}" for key, value in (there | changes).items()]


def parts_of(bucket, outcome):
    """Rows of predictions in the archive's order: names of parts hold versions, which are other than files have."""
    store = bucket.store("output")
    plan = RunPlan.from_json(store.get(f"runs/{outcome.run.name}/plan.json"), where="plan.json")
    return [rows_alone(store.get(path)) for path in plan.predictions]


def local_parts(outcome):
    """The same of a run on this machine."""
    return [rows_alone(data) for data in outcome.bytes.values()]


def test_a_job_on_s3_writes_the_bytes_of_a_local_one_in_few_requests(place, expected, bucket, uploaded):
    with bucket.through() as (near, proxy):
        outcome = place.classify(*settings(near, **uploaded))
        made = list(proxy.requests)
        again = place.classify(*settings(near, **uploaded))
        repeated = len(proxy.requests) - len(made)
    assert outcome.code == 0
    assert parts_of(bucket, outcome) == expected
    gets = [request.key.partition("/")[2] for request in made if request.kind == "GET"]
    images = [name for name in gets if name.startswith("archive/")]
    assert len(set(images)) == IMAGES + 2
    assert len(images) - len(set(images)) <= 2 * SHOWN
    assert len(made) <= 1.2 * needed(shards=len(expected), shown=len(images) - len(set(images)))
    assert (again.code, again.result["did"]) == (0, "nothing")
    assert repeated <= 18 + 2 * len(CLASSES)  # The examples: they are identified by their contents.


def needed(*, shards, shown):
    """Requests that a job cannot do without.

    Args:
        shards: of the archive.
        shown: images of the archive in the report.
    """
    examples = 2 * len(CLASSES)
    reads = {
        "images": IMAGES + 2 + examples,
        "examples, to identify them": examples,
        "features, to train and to label": len(CLASSES) + shards,
        "the classifier": 2,
        "predictions, to count": shards,
        "what the report shows": min(shards, SHARDS_SHOWN)
        + shown
        + len(CLASSES)
        - 1
        + len(("metrics", "plan", "failures")),
        "examples, to find odd ones for the report": examples + len(CLASSES),
        "features, to find copies for the report": min(shards, SHARDS_SHOWN),
        "features, to compare with the examples": shards,
        "predictions, to name copies": min(shards, 2 * SHARDS_SHOWN),
        "examples of which there are copies": examples,
    }
    writes = {
        "features": len(CLASSES) + shards,
        "predictions": shards,
        "the classifier": 2,
        "the run": 5,
        "the lease": 1,
    }
    listings = len(("archive", "examples", "features", "features of examples", "predictions", "lease"))
    listings += len(("examples, for the report", "audits"))
    look_ups = len(("is it finished?", "is it trained?"))
    return sum(reads.values()) + sum(writes.values()) + listings + look_ups + len(("the lease is deleted",))


@pytest.mark.slow
def test_an_escalated_job_on_s3_writes_the_bytes_of_a_local_one(tmp_path, tiny_clip, bucket):
    (tmp_path / "diffusion").mkdir()
    place = Place(tmp_path, tiny_clip).fill()
    model = {"model": str(write_tiny_diffusion(tmp_path / "diffusion")), "batch_size": 8}
    asked = {"max_fraction": 0.3, "steps": 8, "hyperparameters": {"steps": 2, "samples": 1}}
    place.write_job(escalate=model | asked)
    here = place.classify()
    bucket.upload(place.examples, "examples")
    there = {"archive.uri": bucket.upload(place.archive, "archive"), "support.uri": bucket.url("examples")}
    with bucket.through() as (near, proxy):
        outcome = place.classify(*settings(near, **there))
        reads = Counter(request.key for request in proxy.requests if request.kind == "GET")
        look_ups = proxy.count()["HEAD"]
    assert (here.code, outcome.code) == (0, 0), outcome.messages
    assert parts_of(bucket, outcome) == local_parts(here)
    # Examples: by the driver, their latents in both trainings and for calibration, and twice for the report.
    assert max(reads.values()) <= 6
    assert look_ups <= 3 + 4 * len(CLASSES)  # Adapters, and those of calibration: before training, before scoring.


@pytest.mark.parametrize("kept", ["tar", "table"])
def test_tars_and_tables_on_s3_give_the_bytes_of_local_ones(place, bucket, tmp_path, kept):
    files = sorted(path for path in place.archive.rglob("*") if path.is_file())
    members = [(path.relative_to(place.archive).as_posix(), path.read_bytes()) for path in files]
    if kept == "tar":
        put(tmp_path / "images/a.tar", tar_bytes(members))
    else:
        names, images = zip(*members, strict=True)
        (tmp_path / "images").mkdir()
        pq.write_table(pa.table({"key": names, "image": images}), tmp_path / "images/a.parquet", row_group_size=20)
    bucket.upload(place.examples, "examples")
    (tmp_path / "examples.csv").write_text(csv_of(bucket, place))
    local = {"archive.uri": tmp_path / "images", "job.output": tmp_path / "output"}
    table = {"support.uri": tmp_path / "examples.csv", "support.schemes": '["s3"]'}
    here = place.classify(*settings(bucket, **table, **local))
    with bucket.through() as (near, proxy):
        there = {"archive.uri": bucket.upload(tmp_path / "images", "images")}
        outcome = place.classify(*settings(near, **table, **there))
        read = [request for request in proxy.requests if request.kind == "GET" and "/images/" in request.key]
    assert (here.code, outcome.code) == (0, 0)
    assert parts_of(bucket, outcome) == local_parts(here)
    assert len(read) <= 4 * len(parts_of(bucket, outcome))  # To list, to embed, and to show them and their copies.


def csv_of(bucket, place):
    """A local table of examples that lie in the bucket."""
    examples = sorted(place.examples.glob("*/*.jpg"))
    rows = [f"{bucket.url('examples')}/{path.parent.name}/{path.name},{path.parent.name}" for path in examples]
    return "\n".join(["image,label", *rows, ""])


@pytest.mark.slow
def test_a_job_that_is_killed_on_a_bad_connection_ends_with_the_same_bytes(place, expected, bucket, uploaded):
    with bucket.through(TROUBLE) as (near, proxy):
        there = settings(near, **uploaded)
        kills = kill_again_and_again("classify", place.job, *there, chance=random.Random(0), parts=(8, 20), runs=8)
        outcome = place.classify(*there)
        faults = proxy.faults()
    assert kills >= 2
    assert outcome.code == 0, outcome.messages
    assert set(faults) == {"slow_down", "reset_before", "reset_after", "slow", "truncated"}
    assert parts_of(bucket, outcome) == expected


@pytest.mark.ray
def test_workers_of_a_cluster_reach_the_same_server(ray_session, place, expected, bucket, s3_server, uploaded):
    """Over TLS, with a certificate that no machine trusts by itself."""
    there = {"storage.endpoint": s3_server.secure_endpoint, "storage.ca_file": s3_server.ca_file}
    outcome = place.classify("cluster.mode=ray", "cluster.clip_workers=2", *settings(bucket, **uploaded, **there))
    assert outcome.code == 0, outcome.messages
    assert parts_of(bucket, outcome) == expected


def test_storage_problems_are_reported_before_anything_runs(place, bucket, uploaded):
    bucket_missing = [*settings(bucket, **uploaded), "job.output=s3://no-such-bucket/output"]
    for words, message in (
        (bucket_missing, "[job] output: could not reach s3://no-such-bucket/output: NoSuchBucket"),
        (
            [*settings(bucket, **uploaded), "storage.endpoint=http://127.0.0.1:9"],
            "cannot connect to http://127.0.0.1:9",
        ),
        ([*settings(bucket, **uploaded), "storage.ca_file=nowhere.pem"], "[storage]: [Errno 2] No such file"),
        (
            [*settings(bucket, **uploaded), "archive.uri=s3://me:hunter2@photos/"],
            "[archive] uri: a URL with a password",
        ),
        ([*settings(bucket, **uploaded), "storage.secret_key=hunter2"], "[storage] secret_key: unknown key. Known: "),
    ):
        outcome = place.classify(*words)
        assert (outcome.code, outcome.result) == (2, None)
        assert message in outcome.messages
        assert "hunter2" not in outcome.messages
    assert list(bucket.store("output").list()) == []


def test_status_and_report_find_the_server_by_the_job_file(finished, bucket, tmp_path):
    bucket.upload(finished.output, "output")
    job = tmp_path / "job.toml"
    job.write_text(finished.job.read_text() + f'[storage]\nendpoint = "{bucket.storage.endpoint}"\n')
    job.write_text(job.read_text().replace(str(finished.output), bucket.url("output")))
    (run,) = fewshot("status", job).result["runs"]
    assert run["state"] == "complete"
    (report,) = fewshot("report", job).result["reports"]
    assert report["path"].startswith(bucket.url("output/runs/"))


def test_the_status_of_a_finished_run_takes_few_requests(finished, bucket, tmp_path):
    bucket.upload(finished.output, "output")
    parts = len(finished.classify().parts)
    with bucket.through() as (near, proxy):
        job = tmp_path / "job.toml"
        job.write_text(finished.job.read_text() + f'[storage]\nendpoint = "{near.storage.endpoint}"\n')
        job.write_text(job.read_text().replace(str(finished.output), near.url("output")))
        (run,) = fewshot("status", job).result["runs"]
        assert (run["state"], run["parts"]) == ("complete", f"{parts}/{parts}")
        assert proxy.count() == {"LIST": 4, "GET": 3}  # One of them is for schedules.


def test_the_status_of_a_running_job_takes_few_requests(finished, bucket, tmp_path):
    bucket.upload(finished.output, "output")
    run = finished.classify().run.name
    bucket.store("output").delete(f"runs/{run}/metrics.json")
    with acquire_lease(bucket.store("output"), f"runs/{run}/lease"), bucket.through() as (near, proxy):
        job = tmp_path / "job.toml"
        job.write_text(finished.job.read_text() + f'[storage]\nendpoint = "{near.storage.endpoint}"\n')
        job.write_text(job.read_text().replace(str(finished.output), near.url("output")))
        (found,) = fewshot("status", job).result["runs"]
        assert (found["state"], found["running"], found["share"]) == ("labelling", True, 1.0)
        assert 0 <= found["sign_of_life_s"] < 60
        assert proxy.count() == {"LIST": 5, "GET": 4, "HEAD": 1}


@pytest.mark.parametrize("command", ["status", "report"])
def test_missing_credentials_are_a_setup_error(bucket, tmp_path, monkeypatch, command):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    job = tmp_path / "job.toml"
    storage = f'[storage]\nendpoint = "{bucket.storage.endpoint}"\nregion = "elsewhere"\n'  # Not opened here yet.
    job.write_text(f'[job]\nname = "look"\noutput = "{bucket.url("output")}"\n{storage}')
    outcome = fewshot(command, job)
    assert (outcome.code, outcome.result) == (2, None)
    assert "credentials" in outcome.messages
