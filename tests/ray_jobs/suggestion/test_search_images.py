"""`fewshot search` on outputs of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from ray_jobs.suggestion.embedded_run import EmbeddedRun
from ray_jobs.suggestion.search_images import nearest_images
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
