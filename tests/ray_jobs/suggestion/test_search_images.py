"""`fewshot search` on outputs of all kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Store
from ray_jobs.errors import JobError
from ray_jobs.output.feature_parts import FeatureRows, decode, encode
from ray_jobs.suggestion import search_images
from ray_jobs.suggestion.embedded_run import EmbeddedRun
from ray_jobs.suggestion.search_images import cosines, nearest_images, promising
from tests.ray_jobs.place import Place, fewshot, put
from tests.ray_jobs.suggestion.embedded_output import write_embedded
from tests.tiny_clip import write_tiny_clip


def search(output, direction, count):
    """The keys of the images most similar to a direction."""
    unit = np.array(direction, np.float32) / np.linalg.norm(direction)
    found, read = nearest_images(EmbeddedRun.open(str(output)), unit.astype(np.float32), count)
    return [image.image for image in found], read


def test_the_nearest_images_are_those_of_a_full_sort(tmp_path):
    rows = np.random.default_rng(0).normal(size=(700, 5))
    features = {f"{i:04}.jpg": row.tolist() for i, row in enumerate(rows)}
    written = write_embedded(tmp_path, features | {"broken.jpg": None})
    direction = np.array([1.0, -1.0, 0.5, 0.0, 2.0])
    cosines = rows @ direction / np.linalg.norm(rows, axis=1)
    expected = [f"{i:04}.jpg" for i in np.argsort(-cosines, kind="stable")[:25]]
    assert search(written.store.root, direction, 25) == (expected, 700)


def test_equal_images_keep_the_order_of_the_archive(tmp_path):
    written = write_embedded(tmp_path, {f"{i:04}.jpg": [1.0, float(i % 2)] for i in range(600)})
    found, _ = search(written.store.root, [1.0, 0.0], 310)
    assert found == [f"{i:04}.jpg" for i in [*range(0, 600, 2), *range(1, 20, 2)]]


def test_more_than_there_are_gives_all(tmp_path):
    written = write_embedded(
        tmp_path, {"a.jpg": [1.0, 0.0], "b.jpg": [0.0, 1.0], "c.jpg": None, "zero.jpg": [0.0, 0.0]}
    )
    assert search(written.store.root, [1.0, 0.0], 100) == (["a.jpg", "b.jpg"], 2)


def test_missing_features_are_told(tmp_path):
    written = write_embedded(tmp_path, {f"{i:04}.jpg": [1.0, float(i)] for i in range(600)})
    assert EmbeddedRun.open(written.store.root).notices == ()
    parts = sorted(written.store.list("features"))
    written.store.delete(parts[0])
    (notice,) = EmbeddedRun.open(written.store.root).notices
    assert notice.startswith(f"features of 1 of {len(parts)} shards are not there")


@dataclass
class Parts:
    """A run that is nothing but parts of features."""

    store: Store
    paths: list[str]

    def run(self):
        return EmbeddedRun(
            SimpleNamespace(store=self.store, plan=SimpleNamespace(features=self.paths, predictions=())),
            SimpleNamespace(),
        )

    def plain_search(self, direction, count):
        """Sort all images by their cosines in float64."""
        found = []
        for path in self.paths:
            rows = decode(self.store.get(path))
            for key, error, view in zip(rows.images, rows.errors, rows.views[:, 0].astype(np.float64), strict=True):
                if error is None and view.any():
                    unit = direction.astype(np.float64)
                    found.append((np.float32(view @ unit / np.linalg.norm(view)), key))
        order = sorted(range(len(found)), key=lambda place: -found[place][0])[:count]
        return [found[place][1] for place in order], len(found)


def write_parts(folder, features, sizes, *, views=1):
    """Write rows [N, D] as parts of these sizes; NaN stands for an image that was not read."""
    store, paths, first = Store(str(folder)), [], 0
    for size in sizes:
        rows = np.repeat(features[first : first + size, None], views, axis=1).astype(np.float32)
        if views > 1:
            rows[:, 1:] *= -1
        lost = np.isnan(rows).any(axis=(1, 2))
        rows[lost] = 0.0
        keys = [f"{first + row:05}.jpg" for row in range(len(rows))]
        errors = ["it is broken" if is_lost else None for is_lost in lost]
        paths.append(f"features/0/0/part-{len(paths):016x}.parquet")
        store.put(paths[-1], encode(FeatureRows(keys, [""] * len(keys), errors, rows)))
        first += size
    return Parts(store, paths)


@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    count=st.integers(1, 40),
    views=st.integers(1, 2),
)
def test_a_search_is_a_sort_of_all_images(tmp_path_factory, seed, sizes, count, views):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(sum(sizes), 3)).astype(np.float64)  # Many are equal, and some have no length.
    rows[rng.random(len(rows)) < 0.1] = np.nan
    parts = write_parts(tmp_path_factory.mktemp("parts"), rows, sizes, views=views)
    direction = np.array([0.6, 0.0, 0.8], np.float32)
    found, read = nearest_images(parts.run(), direction, count)
    assert ([image.image for image in found], read) == parts.plain_search(direction, count)


def test_a_search_of_many_parts_reads_few_keys(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(3000, 16))
    rows[:20] = 1.0  # The first part has what is searched for.
    parts = write_parts(tmp_path, rows, [20] * 150)
    opened = []
    monkeypatch.setattr(search_images, "read_keys", lambda data: opened.append(0) or keys(data))
    found, read = nearest_images(parts.run(), np.full(16, 0.25, np.float32), 20)
    assert [image.image for image in found] == [f"{row:05}.jpg" for row in range(20)]
    assert read == 3000
    assert len(opened) < 60  # Those that were read before the first one was done.


keys = search_images.read_keys


@pytest.mark.parametrize("scale", [1e-18, 1e-13, 1.0, 1e17])
def test_images_of_any_length_are_compared(tmp_path, scale):
    rows = np.random.default_rng(1).normal(size=(200, 8)) * scale
    parts = write_parts(tmp_path, rows, [50] * 4)
    direction = np.full(8, 8**-0.5, np.float32)
    found, read = nearest_images(parts.run(), direction, 30)
    assert ([image.image for image in found], read) == parts.plain_search(direction, 30)


def test_lost_digits_of_a_tiny_image_displace_no_other(tmp_path):
    tiny = np.full(40, 4e-23)
    tiny[0] *= -1
    other = np.ones(40)
    other[0] = 0.0
    parts = write_parts(tmp_path, np.array([tiny, other]), [2])
    found, _ = nearest_images(parts.run(), np.full(40, 40**-0.5, np.float32), 1)
    assert [image.image for image in found] == ["00001.jpg"]


def test_lengths_that_overflow_are_left_out(tmp_path):
    parts = write_parts(tmp_path, np.array([[1.0, 0.0], [1e30, 0.0], [np.inf, 0.0]]), [3])
    found, read = nearest_images(parts.run(), np.array([1.0, 0.0], np.float32), 3)
    assert ([image.image for image in found], read) == (["00000.jpg"], 1)


@given(seed=st.integers(0, 1000), dim=st.integers(1, 600), count=st.integers(1, 60))
def test_no_image_that_belongs_to_the_nearest_is_passed_over(seed, dim, count):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(40, dim)).astype(np.float32) * rng.choice([1e-3, 1.0, 100.0], size=(40, 1)).astype(
        np.float32
    )
    rows[20:30] = rows[:10] + rng.normal(size=(10, dim)) * 1e-6  # Almost equal ones.
    direction = rng.normal(size=dim)
    unit = (direction / np.linalg.norm(direction)).astype(np.float32)
    exact = cosines(rows, unit)
    floor = float(rng.choice(exact))
    chosen, read = promising(rows[:, None], unit, count, floor)
    nearest = set(np.argsort(-exact, kind="stable")[:count].tolist())
    assert read == 40
    assert nearest & set(np.flatnonzero(exact > floor).tolist()) <= set(chosen.tolist())


def test_errors_of_float32_pass_over_no_image():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=512) + 1e-6 * rng.normal(size=(2000, 512))).astype(np.float32)
    unit = rng.normal(size=512)
    unit = (unit / np.linalg.norm(unit)).astype(np.float32)
    exact = cosines(rows, unit)
    order = np.argsort(-exact, kind="stable")
    for count, floor in ((2000, float(np.median(exact))), (100, -np.inf)):
        chosen, _ = promising(rows[:, None], unit, count, floor)
        assert set(order[:count][exact[order[:count]] > floor].tolist()) <= set(chosen.tolist())


def test_few_images_of_a_large_part_are_compared_again():
    rows = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    chosen, read = promising(rows[:, None], np.full(64, 0.125, np.float32), 10, -np.inf)
    assert read == 1000
    assert 10 <= len(chosen) < 20


def test_other_views_that_are_not_finite_take_an_image_out():
    rows = np.ones((3, 2, 4), np.float32)
    rows[1, 1, 0] = np.nan
    chosen, read = promising(rows, np.full(4, 0.5, np.float32), 3, -np.inf)
    assert (chosen.tolist(), read) == ([0, 2], 2)


def test_equal_images_of_different_parts_are_equally_similar(tmp_path):
    row = np.random.default_rng(2).normal(size=513)
    others = np.random.default_rng(3).normal(size=(40, 513))
    parts = write_parts(tmp_path, np.concatenate([others[:7], [row], others[7:], [row]]), [3, 9, 30])
    direction = (row / np.linalg.norm(row)).astype(np.float32)
    found, _ = nearest_images(parts.run(), direction, 2)
    assert [image.image for image in found] == ["00007.jpg", "00041.jpg"]
    assert found[0].similarity == found[1].similarity
    assert found[0].row == 4


def test_a_damaged_part_is_named(tmp_path):
    parts = write_parts(tmp_path, np.eye(4), [2, 2])
    data = bytearray(parts.store.get(parts.paths[1]))
    data[len(data) // 2] ^= 1
    parts.store.put(parts.paths[1], bytes(data))
    with pytest.raises(JobError, match="is damaged"):
        nearest_images(parts.run(), np.array([1, 0, 0, 0], np.float32), 1)
    assert parts.store.get(parts.paths[1]) == bytes(data)


def test_a_part_that_was_removed_meanwhile_is_named(tmp_path):
    parts = write_parts(tmp_path, np.eye(4), [2, 2])
    run = parts.run()
    assert len(run.features) == 2
    parts.store.delete(parts.paths[0])
    with pytest.raises(JobError, match="was removed meanwhile"):
        nearest_images(run, np.array([1, 0, 0, 0], np.float32), 1)


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Place:
    """A job with class names alone, done. Shared: leave it as it is."""
    place = Place(tmp_path_factory.mktemp("named"), write_tiny_clip(tmp_path_factory.mktemp("clip"))).fill()
    table = place.folder / "classes.csv"
    table.write_text("image,label\n,amber\n,blue\n")
    place.write_job(support={"uri": str(table)}, classifier={"method": "zero_shot"})
    assert place.classify().code == 0
    return place


def test_a_text_is_searched_where_there_are_class_names_alone(named):
    found = fewshot("search", named.output, "a blue bottle", "--n", 5)
    assert f"fewshot review {named.output} --screen {Path(found.result['stored']).stem}" in found.messages
    assert found.code == 0
    similarities = [image["similarity"] for image in found.result["images"]]
    assert len(similarities) == 5
    assert similarities == sorted(similarities, reverse=True)
    assert (found.result["query"], found.result["considered"]) == ("a blue bottle", 18)
    assert {image["label"] for image in found.result["images"]} <= {"amber", "blue"}


def test_a_class_name_finds_the_images_that_zero_shot_gives_to_it(named):
    both = {text: fewshot("search", named.output, text).result["images"] for text in ("amber", "blue")}
    amber, blue = ({image["image"]: image["similarity"] for image in found} for found in both.values())
    guesses = {image["image"]: image["label"] for image in both["amber"]}
    assert all((amber[key] > blue[key]) == (guess == "amber") for key, guess in guesses.items())


def test_an_image_of_the_archive_finds_itself(named):
    wanted = named.archive / "photo_007.jpg"
    found = fewshot("search", named.output, "--image", wanted, "--n", 1)
    assert found.result["images"][0]["image"] == "photo_007.jpg"
    assert found.result["images"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)


def test_suggestions_need_class_names_alone(named):
    found = fewshot("suggest", named.output, "--n", 4)
    assert found.code == 0
    assert found.result["labelled"] == 0
    assert {image["reason"] for image in found.result["images"]} == {"unseen region"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "expected a text or an image to search for"),
        (("a text", "--image", "x.jpg"), "expected a text or an image to search for"),
        (("  ",), "got an empty one"),
        (("--image", "missing.jpg"), "--image missing.jpg: "),
        (("a text", "--n", "0"), ""),
    ],
)
def test_a_wrong_query_is_named(named, words, expected):
    done = fewshot("search", named.output, *words)
    assert done.code == 2
    assert expected in done.messages


def test_a_file_that_is_no_image_is_named(named, tmp_path):
    put(tmp_path / "text.jpg", b"this is no image\n" * 40)
    done = fewshot("search", named.output, "--image", tmp_path / "text.jpg")
    assert done.code == 2
    assert f"--image {tmp_path / 'text.jpg'}: " in done.messages


@pytest.mark.parametrize("text", ["word " * 20_000, "{}", "{0} \\ %s", "\U0001f34e \u202e", "=1+1"])
def test_any_text_can_be_searched_for(named, text):
    assert len(fewshot("search", named.output, text, "--n", 2).result["images"]) == 2


def test_a_model_for_images_alone_takes_no_text(tmp_path, monkeypatch):
    written = write_embedded(tmp_path, {"a.jpg": [1.0, 0.0]})
    monkeypatch.setattr("fewshot.backbones.ClipSpec.has_text", property(lambda spec: False))
    done = fewshot("search", written.store.root, "a text")
    assert done.code == 2
    assert "embeds images only" in done.messages


def test_a_model_with_other_features_is_named(tmp_path, named):
    written = write_embedded(tmp_path, {"a.jpg": [1.0, 0.0]})
    with pytest.raises(Exception, match="the weights have changed"):
        nearest_images(EmbeddedRun.open(written.store.root), np.ones(3, np.float32), 1)
