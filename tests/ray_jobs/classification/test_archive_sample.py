"""Jobs whose classifier learns from the archive: the sample is drawn once and kept."""

from __future__ import annotations

import json

import pytest

from tests.ray_jobs.place import fewshot, picture, put, written

pytestmark = pytest.mark.slow
LEARNS, RENEW = "classifier.method=gda_u", 'classifier.archive_sample="renew"'


def classifiers(place):
    return sorted(path.parent.name for path in place.output.glob("classifiers/gda_u/*/card.json"))


def labels(outcome):
    assert outcome.code == 0, outcome.messages
    return {image: (row["label"], row["score"]) for image, row in outcome.rows.items()}


def grow(place):
    for number in range(8):
        put(place.archive / f"new_{number}.jpg", picture("blue", 500 + number))


def test_a_growing_archive_changes_no_label_until_the_sample_is_renewed(place):
    before = labels(place.classify(LEARNS))
    samples = written(place.output / "archive-samples")
    grow(place)
    after = labels(place.classify(LEARNS))
    assert {image: after[image] for image in before} == before
    assert len(after) == len(before) + 8
    assert len(classifiers(place)) == 1
    assert written(place.output / "archive-samples") == samples
    labels(place.classify(LEARNS, RENEW))
    assert len(classifiers(place)) == 2
    kept = place.classify(LEARNS)
    assert kept.code == 0
    assert len(classifiers(place)) == 2


def test_the_card_names_the_sample_and_the_decision(place):
    labels(place.classify(LEARNS))
    card = json.loads(next(place.output.glob("classifiers/gda_u/*/card.json")).read_text())
    assert 1 < card["archive_images"] <= 18
    assert card["hyperparameters"]["weight"] == 0.0
    assert card["held_out"]["candidates"] == []  # Two examples of a class decide nothing.
    assert (place.output / "archive-samples" / f"{card['trained_from']['archive_sample']}.parquet").exists()


def test_a_sample_that_was_lost_is_drawn_again_only_from_the_same_archive(place):
    before = labels(place.classify(LEARNS))
    lost = [*place.output.glob("archive-samples/*.parquet"), *place.output.glob("classifiers/gda_u/*/*")]
    for path in [*lost, *place.output.glob("runs/*/metrics.json")]:
        path.unlink()
    assert labels(place.classify(LEARNS)) == before
    for path in lost:
        path.unlink()
    grow(place)
    stopped = place.classify(LEARNS)
    assert stopped.code == 2
    assert 'set [classifier] archive_sample = "renew"' in stopped.messages


def test_an_archive_without_a_readable_image_ends_as_with_any_method(place):
    for path in place.archive.rglob("*"):
        if path.is_file():
            path.write_bytes(b"no image")
    assert [place.classify(method).code for method in ("classifier.method=gda", LEARNS)] == [1, 1]
    grow(place)
    assert "new_0.jpg" in labels(place.classify(LEARNS))
    assert len(classifiers(place)) == 2


@pytest.mark.parametrize(
    ("kind", "runs", "message"),
    [("parquet", 1, "damaged, made anew: {path}"), ("json", 2, "{path} was damaged and is gone; run again")],
)
def test_a_damaged_sample_is_named_by_verify_and_made_anew(place, kind, runs, message):
    labels(place.classify(LEARNS))
    (path,) = place.output.glob(f"archive-samples/*.{kind}")
    expected = path.read_bytes()
    path.write_bytes(expected[:9] + bytes([expected[9] ^ 4]) + expected[10:])
    verified = fewshot("verify", place.output)
    assert [each["path"] for each in verified.result["runs"][0]["damaged"]] == [str(path)]
    messages = [place.classify(LEARNS).messages for _ in range(runs)]
    assert message.format(path=path) in messages[0]
    assert path.read_bytes() == expected
    assert fewshot("verify", place.output).result["complete"]


def test_shares_of_unknown_classes_stop_the_job_before_anything_is_embedded(place):
    stopped = place.classify(LEARNS, "classifier.hyperparameters={shares={red=0.5}}")
    assert stopped.code == 2
    assert "hyperparameters.shares: the examples have no class red" in stopped.messages
    assert not place.features()


def test_the_plan_lists_the_sample(place):
    planned = fewshot("plan", place.job, "--no-probe", "--set", LEARNS)
    stages = {stage["stage"]: stage for stage in planned.result["stages"]}
    assert stages["sample archive"]["left"] == 1
    names = list(stages)
    assert names.index("embed archive") < names.index("sample archive") < names.index("train")


def test_a_candidate_of_auto_learns_from_the_archive_as_by_itself(place):
    candidates = 'classifier.hyperparameters={candidates=["gda_u", "nearest_mean"]}'
    labels(place.classify("classifier.method=auto", candidates))
    card = json.loads(next(place.output.glob("classifiers/auto/*/card.json")).read_text())
    assert (place.output / "archive-samples" / f"{card['trained_from']['archive_sample']}.parquet").exists()
    assert 1 < card["archive_images"] <= 18


def test_methods_that_do_not_learn_from_the_archive_draw_nothing(place):
    labels(place.classify("classifier.method=nearest_mean", RENEW))
    assert not (place.output / "archive-samples").exists()
