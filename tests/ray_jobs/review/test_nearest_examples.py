"""The nearest examples of an image are those of the largest cosine, of the image that is shown alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from ray_jobs.errors import JobError
from ray_jobs.inputs.example_contents import ExampleContents
from ray_jobs.inputs.examples import support_labels
from ray_jobs.output.feature_parts import FeatureRows, encode
from ray_jobs.output.layout import PLAN, shard_of
from ray_jobs.review import nearest_examples
from ray_jobs.review.review_session import ReviewSession
from tests.cluster.records.archives import write_folder
from tests.ray_jobs.review.reviewed_run import browser, open_session, pictures, png, written_run
from tests.ray_jobs.written_run import RUN

CLASSES = [f"class {number:02}" for number in range(10)]
EXAMPLES = "features/examples/part-0.parquet"


@pytest.fixture
def session(tmp_path: Path) -> ReviewSession:
    """Images and examples with random features; one image and one example have none."""
    random = np.random.default_rng(0)
    run = written_run(tmp_path, 30, classes=CLASSES)
    write_folder(tmp_path / "shots", {f"{number}.png": png((number, 7, 9)) for number in range(10)})
    assert run.job.support is not None
    digests = sorted(ExampleContents.read(support_labels(run.job.support)).digests.values())
    run.store.put(EXAMPLES, _part(digests, random.normal(size=(10, 8)), missing=4))
    opened = open_session(run)
    keys = list(pictures(30))
    plan = opened.archive.run.plan
    for part in plan.features:
        run.store.put(part, _part(keys, 1e3 * random.normal(size=(30, 8)), missing=7))
    run.store.put(f"{RUN}/{PLAN}", replace(plan, example_parts=(EXAMPLES,)).to_bytes())
    return open_session(run)


def _part(names: list[str], features: np.ndarray, *, missing: int) -> bytes:
    errors = [None if row != missing else "broken" for row in range(len(names))]
    return encode(FeatureRows(names, [""] * len(names), errors, features.astype(np.float32)[:, None]))


def test_the_nearest_examples_are_those_of_a_plain_loop(session: ReviewSession) -> None:
    store, run = session.archive.store, session.archive.run
    examples, archive = (nearest_examples.view_features(store, part) for part in (EXAMPLES, run.plan.features[0]))
    assert session.archive.job.support is not None
    labels = support_labels(session.archive.job.support)
    digests = ExampleContents.read(labels).digests
    (image,) = session.index.images([session.index.find(["folder/003.png"])["folder/003.png"]])
    mine = archive.views[3, 0].astype(np.float64)
    expected = []
    for name, label in zip(labels.images, labels.labels, strict=True):
        row = examples.images.index(digests[name])
        if examples.errors[row] is None:
            theirs = examples.views[row, 0].astype(np.float64)
            cosine = mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs)
            expected.append((cosine, name, labels.space.names[label]))
    found = session.nearest.find(image)
    assert [(each.image, each.label) for each in found] == [
        (name, label) for _, name, label in sorted(expected)[:-7:-1]
    ]
    np.testing.assert_allclose(
        [each.similarity for each in found], [row[0] for row in sorted(expected)[:-7:-1]], atol=1e-6
    )


def test_only_the_part_of_the_image_is_read_and_the_examples_once(session: ReviewSession) -> None:
    images = session.index.images([1, 2])
    with (
        patch.object(nearest_examples, "view_features", wraps=nearest_examples.view_features) as view,
        patch.object(nearest_examples, "view_parts", wraps=nearest_examples.view_parts) as view_examples,
    ):
        for image in images:
            session.nearest.find(image)
    assert [shard_of(call.args[1]) for call in view.call_args_list] == [image.shard for image in images]
    assert view_examples.call_count == 1


def test_the_page_shows_examples_with_their_classes(session: ReviewSession) -> None:
    client = browser(session)
    assert 'id="nearest"' in client.get("/screen?kind=large").text
    assert 'id="nearest"' not in client.get("/screen?kind=least").text
    found = client.get(f"/nearest/{session.index.name}/1").json()["examples"]
    assert len(found) == 6
    assert {each["label"] for each in found} <= set(CLASSES)
    picture = client.get(f"/example/{session.index.name}/{found[0]['number']}")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    assert client.get(f"/example/{session.index.name}/99").status_code == 400


def test_an_image_without_features_has_no_neighbours(session: ReviewSession) -> None:
    (image,) = session.index.images([session.index.find(["folder/007.png"])["folder/007.png"]])
    with pytest.raises(JobError, match="the run has no features of this image"):
        session.nearest.find(image)


def test_features_that_are_gone_are_said_to_be(session: ReviewSession) -> None:
    client, run = browser(session), session.archive.run
    run.store.delete(run.plan.features[0])
    answer = client.get(f"/nearest/{session.index.name}/1").json()
    assert (answer["examples"], "Run the job again" in answer["problem"]) == ([], True)
    run.store.delete(EXAMPLES)
    answer = browser(ReviewSession(session.archive, session.index, by="ann")).get(f"/nearest/{session.index.name}/1")
    assert answer.json()["problem"] == "no neighbours: the features of the examples are not in the output"


def test_features_of_another_image_in_the_same_row_are_not_taken(session: ReviewSession) -> None:
    (image,) = session.index.images([1])
    with pytest.raises(JobError, match="the run has no features of this image"):
        session.nearest.find(replace(image, image="folder/of_another_name.png"))
