"""The acceptance properties of SAFE-A."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from fewshot.attention_pooling.blend import Branches
from fewshot.attention_pooling.joint_training import JOINT_ADAPTERS, tune_jointly
from fewshot.attention_pooling.pool_training import PoolTrainingSettings, require_pooling
from fewshot.errors import DataError
from fewshot.feature_adapter import adapted, initial_network
from fewshot.key_value_cache.cache_classifier import cache_logits
from fewshot.methods.safe import Safe
from fewshot.methods.safe_a import SafeA
from fewshot.methods.safe_a.adapters import ADAPTERS
from fewshot.model_selection.cross_validation import TIE_STANDARD_ERRORS, held_out_splits
from fewshot.optimization.training_cache import InMemoryCache
from fewshot.prototypes import text_logits
from tests.problems import make_problem, problems

quick = settings(max_examples=3, deadline=None)
SHORT = {"epochs": 5, "steps": 50}
adapters = pytest.mark.parametrize("adapter", ADAPTERS)


def fit(problem, training_cache, **hyperparameters):
    return SafeA(**SHORT | hyperparameters).fit(problem, seed=0, training_cache=training_cache)


@adapters
@quick
@given(made=problems())
def test_an_adapter_that_counts_nothing_leaves_safe_bit_for_bit(adapter, made):
    (problem, features), training_cache = made, InMemoryCache()
    safe = Safe(epochs=SHORT["epochs"]).fit(problem, seed=0, training_cache=training_cache)
    with_adapter = fit(problem, training_cache, adapter=adapter, alpha=0.0)
    assert torch.equal(with_adapter.logits(features), safe.logits(features))
    assert torch.equal(with_adapter.pool(problem.support.dense), safe.pool(problem.support.dense))


def test_the_cache_holds_blended_features_of_the_shots_and_votes_for_their_classes():
    (problem, features), training_cache = make_problem([3, 0, 2]), InMemoryCache()
    classifier = fit(problem, training_cache, adapter="cache", blend_alpha=0.4, image_weight=1.0, alpha=20.0, beta=3.0)
    shots = Branches.from_shots(problem, classifier.weights)
    keys = normalize(0.4 * normalize(shots.tuned, dim=1) + 0.6 * normalize(shots.frozen, dim=1), dim=1)
    votes = torch.exp(-3.0 * (1.0 - features @ keys.T)) @ torch.eye(3)[[0, 0, 0, 2, 2]]
    expected = text_logits(features, classifier.rows, logit_scale=100.0) + 20.0 * votes
    torch.testing.assert_close(classifier.logits(features), expected, rtol=1e-5, atol=1e-3)


def test_the_network_stands_between_the_blended_features_and_safe_s_rows():
    (problem, features), training_cache = make_problem([3, 3]), InMemoryCache()
    classifier = fit(problem, training_cache, adapter="bottleneck", blend_alpha=0.5, image_weight=0.0, alpha=0.4)
    learned = adapted(features, classifier.tensors, residual_ratio=0.4, second_relu=False)
    assert torch.equal(classifier.logits(features), 100.0 * (learned @ problem.class_embeddings.T))


def test_tuned_keys_begin_at_the_cache_and_leave_it():
    (problem, _), training_cache = make_problem([4, 4, 4]), InMemoryCache()
    plain, tuned = (
        fit(problem, training_cache, adapter=name, alpha=1.0, beta=1.0).tensors for name in ("cache", "tuned_cache")
    )
    assert plain["keys"].shape == tuned["keys"].shape
    cosines = (plain["keys"] * normalize(tuned["keys"], dim=1)).sum(dim=1)
    assert 0.5 < cosines.min() < 0.9999


@adapters
@quick
@given(seed=st.integers(0, 20))
def test_the_adapter_is_no_worse_than_safe_on_the_shots_it_was_chosen_on_but_for_chance(adapter, seed):
    problem, _ = make_problem([8, 8, 8, 8], seed=seed)
    training_cache, method = InMemoryCache(), SafeA(**SHORT, adapter=adapter)
    chosen = method.select(problem, seed=0, training_cache=training_cache)
    safe = SafeA(**SHORT, blend_alpha=chosen.blend_alpha, image_weight=chosen.image_weight, adapter=adapter, alpha=0.0)

    def right(candidate):
        fitted = (
            (s, candidate.fit(s.problem, seed=0, training_cache=training_cache))
            for s in held_out_splits(problem, seed=0)[: method.folds]
        )
        return sum(
            int((one.logits(one.pool(split.queries.dense)).argmax(1) == split.queries.labels).sum())
            for split, one in fitted
        )

    plain, queries = right(safe), sum(len(split.queries) for split in held_out_splits(problem, seed=0)[: method.folds])
    assert right(chosen) >= plain - TIE_STANDARD_ERRORS * (plain * (queries - plain) / queries) ** 0.5


def test_safe_and_its_adapters_share_their_trainings():
    problem, _ = make_problem([8, 8, 8])
    trained = []

    class Counting(InMemoryCache):
        def __call__(self, key, make):
            return super().__call__(key, lambda: trained.append(key) or make())

    training_cache = Counting()
    Safe(epochs=SHORT["epochs"]).fit(problem, seed=0, training_cache=training_cache)
    before = len(trained)
    fit(problem, training_cache, adapter="cache")
    assert len(trained) == before > 0


def test_only_one_of_two_hyperparameters_may_be_given():
    problem, _ = make_problem([8, 8, 8])
    selected = SafeA(**SHORT, adapter="cache", beta=2.5).select(problem, seed=0, training_cache=InMemoryCache())
    assert selected.beta == 2.5
    assert selected.alpha is not None


def test_the_plain_cache_is_tip_adapter_s():
    (problem, features), training_cache = make_problem([2, 3]), InMemoryCache()
    classifier = fit(problem, training_cache, adapter="cache", alpha=3.0, beta=2.0)
    expected = cache_logits(features, classifier.rows, **classifier.tensors, alpha=3.0, beta=2.0, logit_scale=100.0)
    assert torch.equal(classifier.logits(features), expected)


@pytest.mark.parametrize("adapter", JOINT_ADAPTERS)
def test_a_joint_training_changes_both_and_with_no_adapter_is_the_layer_alone(adapter):
    (problem, features), training_cache = make_problem([4, 4, 4]), InMemoryCache()
    alone, joint = (
        fit(
            problem, training_cache, adapter=adapter, joint=flag, blend_alpha=0.6, image_weight=1.0, alpha=1.0, beta=1.0
        )
        for flag in (False, True)
    )
    assert set(joint.weights) == set(alone.weights)
    assert set(joint.tensors) == set(alone.tensors)
    assert any(not torch.equal(joint.weights[name], alone.weights[name]) for name in joint.weights)
    assert any(not torch.equal(joint.tensors[name], alone.tensors[name]) for name in joint.tensors)
    silent = fit(problem, training_cache, adapter=adapter, joint=True, blend_alpha=0.6, image_weight=1.0, alpha=0.0)
    assert torch.equal(silent.logits(features), text_logits(features, silent.rows, logit_scale=100.0))


def test_a_joint_step_is_the_gradient_of_the_loss_written_out():
    problem, _ = make_problem([3, 3])
    pooling, dense = require_pooling(problem)
    training = PoolTrainingSettings(epochs=1, learning_rate=1e-3, warm_up=0.0)
    targets = problem.class_embeddings
    tuned = tune_jointly(problem, "bottleneck", targets, settings=training, seed=0)
    layer = {name: value.clone().requires_grad_() for name, value in pooling.trainable(training.scope).items()}
    network = {name: value.requires_grad_() for name, value in initial_network(targets.shape[1], seed=0).items()}
    pooled = normalize(pooling(dense, layer), dim=1)
    logits = 10.0 * normalize(0.8 * pooled + 0.2 * torch.relu(pooled @ network["down"]) @ network["up"]) @ targets.T
    cross_entropy(logits, problem.support.labels).backward()
    both = layer | {f"adapter.{name}": value for name, value in network.items()}
    for name, value in both.items():
        expected = value * (1 - 1e-5) - 1e-3 * value.grad / (value.grad.abs() + training.eps)
        torch.testing.assert_close(tuned[name], expected.detach(), rtol=1e-4, atol=2e-6)


def test_what_is_out_of_range_or_unknown_is_refused():
    with pytest.raises(DataError, match=r"safe_a\.alpha"):
        SafeA(alpha=-1.0)
    with pytest.raises(DataError, match=r"safe_a\.blend_alpha"):
        SafeA(blend_alpha=2.0)
    with pytest.raises(DataError, match="Did you mean 'cache'"):
        SafeA(adapter="cash")
    with pytest.raises(DataError, match=r"with joint = true.*bottleneck"):
        SafeA(adapter="cache", joint=True)
