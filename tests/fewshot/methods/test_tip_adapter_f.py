"""The acceptance properties of Tip-Adapter-F; those of its training are in `test_cache_tuning`."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.tip_adapter_f import TipAdapterF
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from tests.problems import Cluttered, World, problems

quick = settings(max_examples=10, deadline=None)
UNTRAINED = {"max_steps": 0}
SHORT = {"max_steps": 5}


def accuracy(classifier, features, labels):
    return float((classifier.logits(features).argmax(dim=1) == labels).double().mean())


@quick
@given(made=problems(), alpha=st.floats(0, 50), beta=st.floats(0, 20))
def test_before_the_first_step_it_is_tip_adapter_bit_for_bit(made, alpha, beta):
    problem, features = made
    tip = TipAdapter(alpha=alpha, beta=beta).fit(problem, seed=0)
    assert torch.equal(
        TipAdapterF(alpha=alpha, beta=beta, **UNTRAINED).fit(problem, seed=0).logits(features), tip.logits(features)
    )


@quick
@given(made=problems())
def test_alpha_zero_is_zero_shot_exactly(made):
    problem, features = made
    trained = TipAdapterF(alpha=0.0, beta=1.0, **SHORT).fit(problem, seed=0)
    assert torch.equal(trained.logits(features), ZeroShot().fit(problem, seed=0).logits(features))


@quick
@given(made=problems(min_shots=2))
def test_only_the_keys_are_trained(made):
    problem, _ = made
    fixed = {"alpha": 2.0, "beta": 3.0}
    before = TipAdapter(**fixed).fit(problem, seed=0)
    after = TipAdapterF(**fixed, **SHORT).fit(problem, seed=0)
    for field in fields(before):
        same = torch.equal(*(torch.as_tensor(getattr(classifier, field.name)) for classifier in (before, after)))
        assert same == (field.name != "keys")


def test_the_sweep_chooses_the_best_of_all_fits():
    """On folds, by hand: a training for each fold, then every point of the grid."""
    problem = World(4, image_noise=1.5).problem([3, 2, 4, 3])
    chosen = TipAdapterF(beta=3.0, **SHORT).select(problem, seed=0)
    splits = held_out_splits(problem, seed=0)

    def correct(alpha):
        fits = [TipAdapterF(alpha=alpha, beta=3.0, **SHORT).fit(split.problem, seed=0) for split in splits]
        return sum(
            accuracy(fit, split.queries.features, split.queries.labels) * len(split.queries)
            for fit, split in zip(fits, splits, strict=True)
        )

    assert correct(chosen.alpha) >= max(correct(alpha) for alpha in (0.0, 1.0, 8.0, 64.0, 256.0)) - 1e-9


def test_each_fold_and_all_shots_are_trained_once():
    problem = World(4).problem([4] * 4)
    trained = []

    class Counting(InMemoryCache):
        def __call__(self, key, make):
            return super().__call__(key, lambda: trained.append(key) or make())

    fit_calibrated(TipAdapterF(**SHORT), problem, seed=0, training_cache=Counting())
    assert len(trained) == len(set(trained)) == 5


def test_common_directions_are_learned_to_be_ignored():
    there = Cluttered(8, dim=32, name_noise=float("inf"))
    problem, (features, labels) = there.problem([16] * 8), there.test_images(400)
    trained, tip, mean = (
        accuracy(method.fit(problem, seed=0), features, labels)
        for method in (TipAdapterF(alpha=1000.0, beta=4.0), TipAdapter(alpha=1000.0, beta=4.0), NearestMean())
    )
    assert trained > max(tip, mean) + 0.05


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"learning_rate": 0.0}, {"epochs": -1}, {"max_steps": -1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        TipAdapterF(**wrong)
