"""Label sets by a rule and its examples, kept in a file; and the abstention that follows from them."""

import json

import pytest
import safetensors.torch
import torch

from fewshot.conformal import ConformalExamples, LabelSetRule, label_set_rule, label_sets
from fewshot.conformal.example_file import load_examples, save_examples
from fewshot.digests import PLACEHOLDER, seal
from fewshot.errors import DataError
from fewshot.inference.predict import Predictions, with_label_sets
from tests.problems import make_problem

NAMES = ["amber", "blue", "cyan"]


def made(counts=(4, 3, 5), seed=0):
    problem, images = make_problem(list(counts), seed=seed)
    return ConformalExamples.from_problem(problem), images


def test_a_rule_gives_the_sets_of_the_ranks_whatever_the_length_of_features(monkeypatch):
    examples, images = made()
    expected = label_sets(examples.ranks(images.double()), examples=12, max_error=0.2)
    assert torch.equal(LabelSetRule(examples, 0.2).sets(7.0 * images), expected)
    monkeypatch.setattr(label_set_rule, "ROWS", 3)
    assert torch.equal(LabelSetRule(examples, 0.2).sets(images), expected)
    assert LabelSetRule(examples, 0.2).sets(images[:0]).shape == (0, 3)


def test_too_few_examples_reject_nothing_and_rank_nothing(monkeypatch):
    examples, images = made()
    monkeypatch.setattr(ConformalExamples, "ranks", None)
    assert LabelSetRule(examples, 0.07).sets(images).all()


@pytest.mark.parametrize("error", [0.0, 1.0, float("nan")])
def test_an_error_out_of_range_is_refused(error):
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        LabelSetRule(made()[0], error)


def test_a_file_of_examples_keeps_every_bit():
    examples, _ = made(counts=(4, 0, 5))
    data = save_examples(examples, NAMES)
    found = load_examples(data, NAMES)
    for name in ("features", "labels", "text"):
        assert torch.equal(getattr(found, name), getattr(examples, name))
    assert found.logit_scale == examples.logit_scale
    assert data == save_examples(found, NAMES)


@pytest.mark.parametrize("names", [NAMES[::-1], NAMES[:2], [*NAMES, "dun"]])
def test_examples_of_other_classes_are_refused(names):
    with pytest.raises(DataError, match="of other classes"):
        load_examples(save_examples(made()[0], NAMES), names)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_changed_byte_is_found(place):
    data = bytearray(save_examples(made()[0], NAMES))
    data[place] ^= 1
    with pytest.raises(DataError):
        load_examples(bytes(data), NAMES)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": torch.tensor([0, 3])}, r"labels in \[0, 3\)"),
        ({"text": torch.zeros(2, 4, dtype=torch.float64)}, r"text \[K, D\]"),
        ({"features": torch.zeros(2, 4)}, "float64 features"),
        ({"other": torch.zeros(1)}, "expected the tensors"),
    ],
)
def test_a_sealed_file_of_other_tensors_is_refused(change, problem):
    tensors = {
        "features": torch.zeros(2, 4, dtype=torch.float64),
        "labels": torch.tensor([0, 1]),
        "text": torch.zeros(3, 4, dtype=torch.float64),
        "logit_scale": torch.tensor(10.0, dtype=torch.float64),
    }
    about = json.dumps({"classes": NAMES, "digest": PLACEHOLDER})
    data = seal(safetensors.torch.save(tensors | change, {"about": about}))
    with pytest.raises(DataError, match=problem):
        load_examples(data, NAMES)


class Sets:
    """A rule whose sets are given."""

    def __init__(self, *sets):
        self.given = torch.tensor(sets, dtype=torch.bool)

    def sets(self, views):
        assert len(views) == len(self.given)
        return self.given


def test_a_label_is_given_where_it_is_the_only_one_of_its_set():
    labels = torch.tensor([1, 1, 1, 1, 1])
    scored = Predictions(
        label=labels,
        score=torch.full((5,), 0.9),
        margin=torch.full((5,), 0.8),
        top_labels=labels[:, None],
        top_scores=torch.full((5, 1), 0.9),
        abstained=torch.tensor([False, False, False, False, True]),
    )
    rule = Sets([0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0])
    found, sets = with_label_sets(scored, rule, torch.zeros(5, 4))
    assert found.abstained.tolist() == [False, True, True, True, True]
    assert torch.equal(sets, rule.given)
    assert with_label_sets(scored, None, torch.zeros(5, 4)) == (scored, None)
