"""SHIP on top of other methods: the acceptance properties beside those of the generator."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import normalize

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.methods import METHODS
from fewshot.methods.ship import ShipClipAdapter, ShipCoop, ShipTipAdapterF
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import World, make_problem, problems

few = settings(max_examples=5, deadline=None)
SHORT = {
    ShipClipAdapter: {"generator_steps": 3, "steps": 5},
    ShipCoop: {"generator_steps": 3, "steps": 2},
    ShipTipAdapterF: {"generator_steps": 3, "epochs": 1, "min_steps": 5},
}
LONG = {
    ShipClipAdapter: {"generator_steps": 30, "steps": 40},
    ShipCoop: {"generator_steps": 30, "steps": 10},
    ShipTipAdapterF: {"generator_steps": 30, "epochs": 1, "min_steps": 40},
}
SHARED = InMemoryCache()
"""All plain methods share the generator."""
pytestmark = pytest.mark.parametrize("kind", SHORT)


class Counted(InMemoryCache):
    """A memo that lists the trainings it has made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __call__(self, key, make):
        def counted():
            self.made.append(key)
            return make()

        return super().__call__(key, counted)


def fit(kind, problem, **changed):
    return kind(**SHORT[kind] | changed).fit(problem, seed=2, training_cache=InMemoryCache())


def plain(kind):
    return kind.plain(**{name: value for name, value in SHORT[kind].items() if name != "generator_steps"})


def same(one, other):
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return all(torch.equal(torch.as_tensor(left), torch.as_tensor(right)) for left, right in pairs)


@few
@given(made=problems(min_shots=1))
def test_without_new_classes_it_is_the_plain_method_and_shares_its_trainings(kind, made):
    problem, _ = made
    training_cache = Counted()
    expected, trained = plain(kind).fit(problem, seed=2, training_cache=training_cache), len(training_cache.made)
    assert same(expected, kind(**SHORT[kind]).fit(problem, seed=2, training_cache=training_cache))
    assert len(training_cache.made) == trained


def test_without_shots_it_is_the_plain_method(kind):
    problem, _ = make_problem([0, 0, 0])
    assert same(plain(kind).fit(problem, seed=2), fit(kind, problem))


def test_its_hyperparameters_are_those_of_both(kind):
    own = {field.name: field.default for field in fields(kind)}
    others = {field.name: field.default for field in fields(kind.plain)}
    added = {"recipe": "default", "kl_weight": 1.0, "generator_steps": None, "synthetic_shots": None}
    assert own == others | added
    assert METHODS[kind.plain.name].load() is kind.plain
    assert kind.name == f"ship_{kind.plain.name}"


@pytest.mark.parametrize(("field", "value"), [("kl_weight", -1.0), ("synthetic_shots", 0), ("generator_steps", -1)])
def test_a_value_out_of_range_is_refused(kind, field, value):
    with pytest.raises(DataError, match=f"ship.{field}"):
        kind(**{field: value})


def test_the_hyperparameters_of_the_plain_method_are_checked_too(kind):
    with pytest.raises(DataError, match=f"{kind.plain.name}.learning_rate"):
        kind(learning_rate=-1.0)


def test_a_new_class_is_learned_from_synthetic_shots(kind):
    problem, features = make_problem([4, 0, 4, 4])
    with_few, with_many = (fit(kind, problem, synthetic_shots=shots) for shots in (1, 8))
    assert not torch.equal(with_few.logits(features)[:, 1], with_many.logits(features)[:, 1])
    assert not torch.equal(with_few.logits(features)[:, 1], plain(kind).fit(problem, seed=2).logits(features)[:, 1])


def test_as_many_synthetic_shots_as_the_others_typically_have(kind):
    selected = kind(**SHORT[kind]).select(make_problem([3, 0, 5, 4])[0], seed=2)
    assert selected.synthetic_shots == 4


def test_a_generator_is_learned_once_for_a_split_and_once_for_all_shots(kind):
    training_cache = Counted()
    problem = World(6).problem([9, 0, 9, 9, 9, 9])
    fit_calibrated(kind(**SHORT[kind]), problem, seed=2, training_cache=training_cache)
    names = [key.rsplit("-", 1)[0] for key in training_cache.made]
    assert len(set(training_cache.made)) == len(training_cache.made)
    assert {name: names.count(name) for name in names} == {
        "ship_features": 2,
        "ship_generator": 2,
        kind.plain.name: 2,
    }


def test_pretraining_leaves_nothing_to_train_on_its_fold(kind):
    training_cache = Counted()
    problem = World(6).problem([9, 0, 9, 9, 9, 9])
    method = kind(**SHORT[kind])
    method.pretrain_fold(held_out_splits(problem, seed=2)[0], seed=2, training_cache=training_cache)
    pretrained = len(training_cache.made)
    method.select(problem, seed=2, training_cache=training_cache)
    assert len(training_cache.made) == pretrained == 3


def test_with_too_few_held_out_images_the_plain_method_chooses(kind):
    problem, _ = make_problem([1, 1, 0, 1])
    selected = kind(**SHORT[kind]).select(problem, seed=2)
    chosen = plain(kind).select(problem, seed=2)
    assert all(getattr(selected, field.name) == getattr(chosen, field.name) for field in fields(chosen))


def test_a_new_class_is_recognised_by_a_meaningful_name(kind):
    # The tiny tower knows nothing of the world, so images of a class are made of what it says to the name.
    there = World(8, image_noise=0.5)
    tower = there.problem([1] * 8).text_tower
    spoken = tower.encode(tower.prompts([f"class {i}" for i in range(8)], context=0), torch.zeros(0, tower.width))
    there.classes = there.text = normalize(spoken - spoken.mean(dim=0), dim=1)
    problem = there.problem([8, 8, 8, 8, 8, 8, 0, 0])
    method = kind(**LONG[kind])
    features, labels = there.test_images(200)
    new = labels >= 6
    predicted = method.fit(problem, seed=2, training_cache=SHARED).logits(features)[new][:, 6:].argmax(dim=1) + 6
    assert float((predicted == labels[new]).double().mean()) > 0.7
