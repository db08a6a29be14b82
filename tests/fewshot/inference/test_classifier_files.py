import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.digests import seal_json
from fewshot.errors import DataError, UnknownNameError
from fewshot.inference.classifier_files import FORMAT, load_classifier, read_card, save_classifier
from fewshot.inference.held_out_scores import read_held_out_scores
from fewshot.methods import build_method
from tests.problems import make_problem

CARD, TENSORS = "card.json", "classifier.safetensors"


@pytest.fixture(scope="module")
def files():
    calibrated = fit_calibrated(build_method("ape", gamma=0.5), make_problem([4, 4, 4])[0], seed=0, max_error=0.3)
    return save_classifier(calibrated, {"features": "3f2a", "seed": 0})


def changed(files, **facts):
    return {**files, CARD: json.dumps(seal_json({**json.loads(files[CARD]), **facts})).encode()}


def test_the_card_describes_the_classifier_and_added_facts(files):
    card = read_card(files)
    assert card["method"] == "ape"
    assert card["hyperparameters"]["gamma"] == 0.5
    assert card["classes"] == ["class_0", "class_1", "class_2"]
    assert card["logit_scale"] == 100.0
    assert card["held_out"]["source"] == "folds"
    assert (card["features"], card["seed"]) == ("3f2a", 0)


def test_added_facts_may_not_override_the_card(files):
    with pytest.raises(DataError, match="temperature"):
        save_classifier(load_classifier(files), {"temperature": 1.0})


@pytest.mark.parametrize("name", [CARD, TENSORS])
def test_a_missing_file_is_named_in_the_error(files, name):
    with pytest.raises(DataError, match=name):
        load_classifier({other: content for other, content in files.items() if other != name})


@pytest.mark.parametrize("name", [CARD, TENSORS])
def test_a_damaged_file_is_named_in_the_error(files, name):
    with pytest.raises(DataError, match=name):
        load_classifier({**files, name: files[name][:-20]})


def test_held_out_scores_come_back_and_give_any_threshold(files):
    held_out, loaded = read_held_out_scores(files[TENSORS], file=TENSORS), load_classifier(files)
    assert np.array_equal(held_out.scores, loaded.held_out.scores)
    assert np.array_equal(held_out.correct, loaded.held_out.correct)
    assert len(held_out.scores) == loaded.report.images == 12
    assert held_out.guarantee(0.3, confidence=0.9).threshold == loaded.threshold


@pytest.mark.parametrize(
    "change",
    [
        {"held_out.scores": None},
        {"held_out.correct": np.ones(12, np.float32)},
        {"held_out.correct": np.ones(11, bool)},
        {"held_out.scores": np.ones((3, 4), np.float32)},
        {"held_out.scores": np.full(12, 1.5, np.float32)},
        {"held_out.scores": np.full(12, -np.inf, np.float32)},
    ],
)
def test_damaged_held_out_scores_are_refused(files, change):
    tensors = {name: value for name, value in (load(files[TENSORS]) | change).items() if value is not None}
    damaged = {**files, TENSORS: save(tensors)}
    for reading in (load_classifier, lambda files: read_held_out_scores(files[TENSORS], file=TENSORS)):
        with pytest.raises(DataError, match=f"{TENSORS} is damaged"):
            reading(damaged)


def test_an_unknown_method_is_refused_when_loading(files):
    with pytest.raises(UnknownNameError, match="unknown method 'apex'"):
        load_classifier(changed(files, method="apex"))


def test_tensors_of_another_method_are_refused(files):
    with pytest.raises(DataError, match="tip_adapter classifier consists of"):
        load_classifier(changed(files, method="tip_adapter", hyperparameters={"alpha": 1.0}))


@pytest.mark.parametrize("facts", [{"format": FORMAT + 1}, {"held_out": {"shots": 1}}, {"classifier": 3}])
def test_a_card_of_another_layout_is_refused(files, facts):
    with pytest.raises(DataError, match=CARD):
        load_classifier(changed(files, **facts))
