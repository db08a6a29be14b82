"""Examples that look mislabelled are shown to be looked at."""

from __future__ import annotations

import math
import shutil
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster import Store
from fewshot.classes import LabelSpace
from ray_jobs.inputs.examples import Labels
from ray_jobs.report import example_rows
from ray_jobs.report.example_rows import read_example_rows
from ray_jobs.report.odd_examples import find_odd_examples, leave_one_out_leads
from tests.ray_jobs.place import CLASSES, Place, fewshot, picture, put


def plain_lead(features, labels, row):
    """The lead of one example, class by class."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = {}
    for label in set(labels):
        members = [unit[i] for i in range(len(unit)) if labels[i] == label and i != row]
        if members:
            mean = np.mean(members, axis=0)
            similarity[label] = float(unit[row] @ mean / np.linalg.norm(mean))
    own = similarity.pop(labels[row], None)
    return -math.inf if own is None or not similarity else max(similarity.values()) - own


@given(seed=st.integers(0, 999), count=st.integers(1, 12), classes=st.integers(1, 4))
def test_leads_are_those_of_a_plain_loop(seed, count, classes):
    random = np.random.default_rng(seed)
    features, labels = random.normal(size=(count, 5)), random.integers(0, classes, count)
    leads, nearest = leave_one_out_leads(features, labels, classes=classes)
    expected = [plain_lead(features, labels.tolist(), row) for row in range(count)]
    np.testing.assert_allclose(leads, expected, atol=1e-12)
    assert all(nearest[row] != labels[row] for row in range(count) if leads[row] > -math.inf)


def test_the_largest_leads_come_first_with_the_other_class(tmp_path, monkeypatch):
    places = {"a0": (1, 0), "a1": (1, 0.1), "a2": (0.1, 1), "a3": (0.4, 1), "b0": (0, 1), "b1": (0, 1), "bad": (1, 0)}
    images = tuple(places)
    views = np.array([[places[image]] for image in images], dtype=np.float32)
    rows = SimpleNamespace(images=images, errors=(None,) * 6 + ("damaged",), views=views)
    contents = SimpleNamespace(digests={image: image for image in images})
    monkeypatch.setattr(example_rows, "view_parts", lambda *_, **__: rows)
    monkeypatch.setattr(example_rows.ExampleContents, "read", lambda _: contents)
    space = LabelSpace(names=("a", "b"), prompt_names=("a", "b"), descriptions=("", ""))
    labels = Labels(space, str(tmp_path), images, (0, 0, 0, 0, 1, 1, 1))
    found = find_odd_examples(read_example_rows(Store(str(tmp_path)), [], labels))
    assert [(odd.image, odd.label, odd.nearest) for odd in found] == [("a2", "a", "b"), ("a3", "a", "b")]
    assert found[0].lead > found[1].lead > 0


def test_a_mislabelled_example_is_in_the_report(tmp_path, tiny_clip):
    place = Place(tmp_path, tiny_clip).fill(shots=4)
    put(place.examples / CLASSES[0] / "wrong.jpg", picture(CLASSES[1], 1009))
    outcome = place.classify()
    assert outcome.code == 0
    page = (outcome.run / "report" / "index.html").read_text()
    assert "Examples to look at" in page
    shown = page.partition("Examples to look at")[2]
    assert "wrong.<wbr>jpg" in shown or "wrong.jpg" in shown
    assert "data:image/webp" in shown


def test_examples_that_are_gone_cost_only_the_section(tmp_path, tiny_clip, caplog):
    place = Place(tmp_path, tiny_clip).fill()
    outcome = place.classify()
    report = outcome.run / "report" / "index.html"
    report.unlink()
    shutil.rmtree(place.examples)
    fewshot("report", place.output)
    assert report.exists()
    assert "report without examples" in caplog.text


def test_a_report_leaves_damaged_features_of_examples_where_they_are(tmp_path, tiny_clip, caplog):
    place = Place(tmp_path, tiny_clip).fill()
    outcome = place.classify()
    (outcome.run / "report" / "index.html").unlink()
    blocks = list((place.output / "features").glob("*/examples-*/*.parquet"))
    for block in blocks:
        block.write_bytes(block.read_bytes()[:-1])
    fewshot("report", place.output)
    assert "report without odd examples" in caplog.text
    assert blocks
    assert all(block.exists() for block in blocks)
