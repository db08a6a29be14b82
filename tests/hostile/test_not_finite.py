"""Numbers that are none: features, scores and parameters that are NaN or infinite become reasons, never labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from cluster import Store
from fewshot.backbones.clip import ClipBackbone
from fewshot.calibration.calibrate import fit_calibrated
from fewshot.diffusion.lora import save_adapter
from fewshot.errors import DataError
from fewshot.evaluation.metrics import Tally, correct_rows
from fewshot.evaluation.protocols import measure
from fewshot.inference.predict import NOT_FINITE, predict
from fewshot.method import Classifier
from fewshot.methods import build_method
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.candidates import measure_candidates
from fewshot.model_selection.cross_validation import best_point, held_out_splits
from ray_jobs.errors import DamagedError
from ray_jobs.escalation.score_unit import _to_bytes, get_errors
from ray_jobs.interface.stored_classifier import StoredClassifier
from ray_jobs.output.feature_parts import FeatureRows, decode, encode, without_nonfinite
from ray_jobs.steps.adapter_files import get_adapter, is_trained, put_adapter
from ray_jobs.steps.latents import Latents, get_latents
from tests.fewshot.diffusion.lora.stacks import random_stack
from tests.problems import World, make_problem
from tests.ray_jobs.place import BROKEN, picture, put
from tests.strange_files import encode as encode_image
from tests.strange_files import photo

WRONG = [math.nan, math.inf, -math.inf, 1e30]
"""The last is finite, but its square is not: normalised, the features would all be 0."""


def rows_with(value):
    views = np.ones((3, 2, 4), np.float32)
    views[1, 1, 2] = value
    return FeatureRows(["a", "b", "c"], [""] * 3, [None, None, "broken"], views, np.ones((2, 3, 5), np.float16))


@pytest.mark.parametrize("value", WRONG)
def test_a_row_with_such_features_has_a_reason_and_no_features(value):
    found = decode(encode(rows_with(value)), dense=True)
    assert found.errors == [None, "the stored features are not finite numbers", "broken"]
    assert np.array_equal(found.views[0], np.ones((2, 4)))
    assert not found.views[1:].any()
    assert len(found.dense) == 1


def test_tokens_beyond_float16_are_a_reason_too():
    dense = np.ones((2, 3, 5), np.float16)
    dense[0, 0, 0] = np.inf
    found = without_nonfinite(replace(rows_with(1.0), dense=dense), "no tokens")
    assert found.errors == ["no tokens", None, "broken"]
    assert np.array_equal(found.dense, np.ones((1, 3, 5)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_score_that_is_none_abstains_and_is_marked(value, threshold):
    calibrated = fit_calibrated(build_method("zero_shot"), World(7).problem([2] * 7), seed=0)
    calibrated = replace(calibrated, threshold=threshold)
    features, _ = World(7).test_images(4)
    features[2, 0] = value
    scored = predict(calibrated, features)
    assert scored.finite.tolist() == [True, True, False, True]
    assert scored.abstained[2]
    whole = predict(calibrated, features[[0, 1, 3]])
    assert all(torch.equal(getattr(scored[scored.finite], name), getattr(whole, name)) for name in scored.__slots__)


@pytest.mark.parametrize("part", ["support", "val"])
def test_one_such_example_stops_a_training(part):
    problem, _ = make_problem([2, 2])
    spoiled = problem.support.views.clone()
    spoiled[1, 0, 3] = math.nan
    with pytest.raises(DataError, match=f"{part} features of 1 of 4 images are not finite"):
        replace(problem, **{part: replace(problem.support, views=spoiled)})


def test_such_text_embeddings_stop_a_training():
    problem, _ = make_problem([2, 2])
    with pytest.raises(DataError, match="text embeddings of 2 of 2 classes are not finite"):
        replace(problem, class_embeddings=problem.class_embeddings * math.inf)


def test_a_method_that_diverges_is_refused_by_name():
    class Diverging(ZeroShot):
        def fit(self, problem, **options) -> Classifier:
            return replace(super().fit(problem, **options), logit_scale=math.nan)

    with pytest.raises(DataError, match="zero_shot diverged"):
        fit_calibrated(Diverging(), make_problem([2, 2])[0], seed=0)


def test_rows_without_numbers_are_never_correct():
    logits = torch.tensor([[1.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [0.0, math.nan]])
    assert correct_rows(logits, torch.tensor([0, 0, 0, 1])).tolist() == [True, False, False, False]


def test_hyperparameters_without_numbers_are_not_chosen():
    problem, _ = make_problem([4, 4, 4])
    finite = torch.eye(3)

    def sweep(split, points):
        labels = split.queries.labels
        values = {"diverged": torch.full((len(labels), 3), math.nan), "fine": finite[(labels + 1) % 3]}
        return ((point, values[point]) for point in points)

    assert best_point(["diverged", "fine"], held_out_splits(problem, seed=0), sweep) == "fine"


def test_candidates_that_diverged_are_left_out():
    labels = torch.tensor([0, 1] * 4)
    right = 5 * torch.nn.functional.one_hot(labels, 2).float()
    (only,) = measure_candidates({"diverged": right * math.nan, "fine": right}, labels)
    assert (only.method, only.accuracy) == ("fine", 1.0)
    with pytest.raises(DataError, match="scores of all candidates"):
        measure_candidates({"diverged": right * math.nan}, labels)


def test_a_measure_of_such_scores_is_refused():
    logits = torch.tensor([[1.0, 0.0], [math.nan, 0.0]])
    with pytest.raises(DataError, match="the scores of 1 of 2 test images are not finite"):
        measure("few-shot", logits, torch.tensor([0, 0]), torch.tensor([False, False]))


def test_a_confidence_that_is_none_is_in_no_bin():
    labels, scores = torch.tensor([0, 1, 1]), torch.tensor([math.nan, 0.5, math.inf])
    tally = Tally.from_predictions(labels, labels, scores, num_classes=2)
    assert (tally.rows, int(tally.bin_rows.sum()), tally.ece) == (3, 1, 0.5)


def test_stored_noise_errors_that_are_none_are_damage(tmp_path):
    (tmp_path / "part.npy").write_bytes(_to_bytes(np.array([0.5, math.nan], np.float32)))
    with pytest.raises(DamagedError, match="noise errors that are not finite"):
        get_errors(Store(str(tmp_path)), "part.npy")
    assert not (tmp_path / "part.npy").exists()


def test_latents_that_are_none_are_a_reason(tmp_path):
    posterior = np.ones((2, 2, 1, 2, 2), np.float32)
    posterior[1, 0, 0, 0, 0] = math.inf
    (tmp_path / "part").write_bytes(Latents(("a", "b"), (None, None), posterior, 10).to_bytes())
    found = get_latents(Store(str(tmp_path)), "part")
    assert found.errors == (None, "its latents are not finite numbers")
    assert found.posterior[0].all()
    assert not found.posterior[1].any()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_adapters_that_are_none_are_trained_anew(tmp_path, value):
    store, name = Store(str(tmp_path)), "unet/adapter_model.safetensors"
    files = save_adapter(random_stack(1), 0)
    tensors = safetensors.torch.load(files[name])
    next(iter(tensors.values()))[0, 0] = value
    put_adapter(store, "adapters/tif/0", files | {name: safetensors.torch.save(tensors)}, torch.zeros(1, 2, 3), {})
    with pytest.raises(DamagedError, match=r"train them anew .*values that are not finite numbers"):
        get_adapter(store, "adapters/tif/0", torch.device("cpu"))
    assert not is_trained(store, "adapters/tif/0")


@pytest.fixture
def overflowing(monkeypatch):
    """A backbone that has no features of dark images, as one whose arithmetic overflows."""
    forward = ClipBackbone._forward

    def forward_or_nan(clip, images):
        dark = images.float().mean(dim=(1, 2, 3)) < 20
        return forward(clip, images).masked_fill(dark[:, None], math.nan)

    monkeypatch.setattr(ClipBackbone, "_forward", forward_or_nan)
    return encode_image(photo(48, 40, seed=1).point(lambda value: value // 20), "PNG")


@pytest.mark.slow
@pytest.mark.parametrize("max_error", [None, 0.3])
def test_an_image_without_features_is_an_unreadable_row(place, overflowing, max_error):
    put(place.archive / "dark.png", overflowing)
    outcome = place.classify(*([] if max_error is None else [f"classifier.max_error={max_error}"]))
    assert outcome.code == 0
    row = outcome.rows["dark.png"]
    assert (row["status"], row["label"], row["score"], row["top_labels"]) == ("unreadable", None, None, None)
    assert "features of this image are not finite numbers in float32" in row["error"]
    assert outcome.result["unreadable"] == len(BROKEN) + 1


@pytest.mark.slow
def test_features_that_were_stored_as_none_are_unreadable_rows(place):
    assert place.classify().code == 0
    for part in place.output.glob("features/*/*/*.parquet"):
        if "/examples-" not in str(part):
            rows = decode(part.read_bytes())
            rows.views[0] = math.nan
            part.write_bytes(encode(rows))
    outcome = place.classify("classifier.method=zero_shot")
    assert outcome.code == 0
    reasons = [row["error"] for row in outcome.rows.values() if row["status"] == "unreadable"]
    assert "the stored features are not finite numbers" in reasons
    assert all(math.isfinite(row["score"]) for row in outcome.rows.values() if row["status"] == "ok")


@pytest.mark.slow
def test_an_example_without_features_stops_the_job_before_the_archive_is_embedded(place, overflowing):
    put(place.examples / "blue/dark.png", overflowing)
    for _ in ("embedded now", "embedded before"):
        outcome = place.classify()
        assert (outcome.code, outcome.result) == (2, None)
        assert "1 of the 7 examples cannot be read" in outcome.messages
        assert f"{place.examples}/blue/dark.png (blue): the model's features of this image" in outcome.messages
    assert all("/examples-" in f"/{name}" for name in place.features())
    skipped = place.classify("support.skip_unreadable=true")
    assert (skipped.code, skipped.result["unreadable_examples"]["such_as"]) == (0, ["blue/dark.png"])
    strict = place.classify()
    assert (strict.code, strict.result) == (2, None)
    assert "1 of the examples could not be read and were left out, such as blue/dark.png" in strict.messages


def test_a_prediction_in_this_process_has_the_same_reason(tiny_clip, overflowing):
    from fewshot.backbones import ClipSpec, load_clip

    clip = load_clip(ClipSpec(model=str(tiny_clip), batch_size=4))
    calibrated = fit_calibrated(build_method("zero_shot"), World(3, dim=16).problem([2] * 3), seed=0)
    fine, dark = StoredClassifier(calibrated, clip).predict([picture("amber", 1), overflowing])
    assert (fine.status, fine.error) == ("ok", None)
    assert (dark.status, dark.label, dark.score, dark.error) == ("unreadable", None, None, NOT_FINITE)
