"""The acceptance properties of SAFE."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.modified_resnet import AttentionPool2d
from torch.nn.functional import cross_entropy, normalize

from fewshot.attention_pooling.blend import BLEND_ALPHAS, BlendPoint, blended, sweep
from fewshot.attention_pooling.pool_training import PoolTrainingSettings, pooled, tune_pooling
from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.pooling import Pooling, attention_pools
from fewshot.errors import DataError, UnknownNameError
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.safe import Safe
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import TIE_STANDARD_ERRORS, held_out_splits
from fewshot.optimization.training_cache import InMemoryCache, no_cache
from fewshot.problem import Labelled, LabelSpace, Problem
from tests.problems import World, make_problem, problems
from tests.tiny_clip import write_tiny_clip

quick = settings(max_examples=5, deadline=None)
SHORT = {"epochs": 10}


def fit(problem, *, training_cache=no_cache, **hyperparameters):
    return Safe(**SHORT | hyperparameters).fit(problem, seed=0, training_cache=training_cache)


def accuracy(logits, labels):
    return float((logits.argmax(1) == labels).double().mean())


def distracting_maps(count, *, seed, tokens=16, channels=64, classes=5):
    """Maps [M, 16, 64] with one cell that tells the class, two loud cells that do not, and noise."""
    generator = torch.Generator().manual_seed(seed)
    signals, distractors = torch.randn(2, classes, channels, generator=torch.Generator().manual_seed(99)).relu()
    labels = torch.arange(count) % classes
    maps_ = 0.3 * torch.randn(count, tokens, channels, generator=generator).abs()
    for row, label in enumerate(labels.tolist()):
        cells = torch.randperm(tokens, generator=generator)[:3]
        maps_[row, cells[0]] += signals[label]
        maps_[row, cells[1:]] += 3.0 * distractors[torch.randint(classes, (2,), generator=generator)]
    return maps_, labels


def resnet_pool(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pool = AttentionPool2d(4, 64, 4, 32)
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            torch.nn.init.normal_(layer.weight, std=64**-0.5)
    return pool, Pooling(attention_pools.map_pool_from_open_clip(pool), attention_pools.MAP_POOL_SCOPES)


def targets_for(pool, maps_, labels):
    """Text rows as a CLIP would have them: what the class's own cell would give, blurred."""
    with torch.no_grad():
        features = normalize(pool(maps_), dim=1)
        rows = torch.stack([features[labels == label].mean(0) for label in range(5)])
        noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(3))
        return normalize(normalize(rows, dim=1) + normalize(noise, dim=1), dim=1)


@quick
@given(made=problems())
def test_without_the_tuned_layer_and_the_means_it_is_zero_shot(made):
    problem, features = made
    classifier = fit(problem, blend_alpha=0.0, image_weight=0.0)
    zero_shot = ZeroShot().fit(problem, seed=0)
    assert torch.equal(classifier.logits(features), zero_shot.logits(features))
    frozen = normalize(problem.pooling(problem.support.dense), dim=1)
    torch.testing.assert_close(classifier.pool(problem.support.dense), frozen, rtol=0, atol=1e-6)
    assert any(not torch.equal(value, problem.pooling.weights[name]) for name, value in classifier.weights.items()) or (
        not len(problem.support)
    )


@quick
@given(made=problems(min_shots=1))
def test_with_means_alone_and_the_frozen_layer_it_is_the_nearest_class_mean(made):
    problem, features = made
    classifier = fit(problem, blend_alpha=0.0, image_weight=1e6)
    expected = NearestMean(text_weight=0.0).fit(problem, seed=0).logits(features)
    torch.testing.assert_close(classifier.logits(features), expected, rtol=1e-3, atol=1e-2)


def test_training_changes_nothing_of_the_backbone():
    problem, _ = make_problem([4, 4, 4])
    before = {name: value.clone() for name, value in problem.pooling.weights.items()}
    fit(problem)
    assert all(torch.equal(value, before[name]) for name, value in problem.pooling.weights.items())


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    """A CLIP with a ResNet, whose norms have statistics that are buffers."""
    folder = tmp_path_factory.mktemp("resnet")
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
    return write_tiny_clip(folder, vision_cfg=vision)


def test_all_of_clip_but_the_tuned_copy_of_the_layer_is_frozen_buffers_included(resnet_folder):
    clip = load_clip(ClipSpec(model=str(resnet_folder), batch_size=4))
    state = clip.model.state_dict
    before = {name: tensor.clone() for name, tensor in state().items()}
    assert any(name.endswith("running_var") for name in before)
    assert any(name.endswith("num_batches_tracked") for name in before)
    assert not any(module.training for module in clip.model.modules())
    pictures = torch.randint(256, (9, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features, dense = clip.embed_dense(pictures)
    names = ("a", "b", "c")
    labels, there = torch.arange(9) % 3, LabelSpace(names, names, ("",) * 3)
    support = Labelled(features[:, None], labels, dense)
    problem = Problem(there, clip.prototypes(there), support, None, 100.0, pooling=clip.pooling)
    layer = {name: tensor.clone() for name, tensor in problem.pooling.weights.items()}
    classifier = fit(problem, blend_alpha=1.0, image_weight=0.0)
    classifier.logits(classifier.pool(dense))
    assert torch.equal(clip.embed_images(pictures), features)
    assert state().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state().items())
    assert all(torch.equal(tensor, layer[name]) for name, tensor in problem.pooling.weights.items())
    assert all(not torch.equal(value, layer[name]) for name, value in classifier.weights.items())


def test_training_on_stored_tokens_is_training_the_layer_in_its_tower():
    maps_, labels = distracting_maps(20, seed=0)
    plain, pooling = resnet_pool(0)
    targets = targets_for(plain, maps_.transpose(1, 2).unflatten(2, (4, 4)), labels)
    training = PoolTrainingSettings(epochs=6, batch_size=20, learning_rate=1e-3, loss_temperature=2.0)
    tuned = tune_pooling(pooling, maps_, labels, targets, logit_scale=100.0, settings=training, seed=0)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=training.learning_rate, eps=training.eps, weight_decay=0.01)
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * training.rate(step / 6)
        optimizer.zero_grad()
        features = normalize(plain(maps_.transpose(1, 2).unflatten(2, (4, 4))), dim=1)
        cross_entropy(50.0 * features @ targets.T, labels).backward()
        optimizer.step()
    with torch.no_grad():
        expected = plain(maps_.transpose(1, 2).unflatten(2, (4, 4)))
    torch.testing.assert_close(pooled(pooling, maps_, tuned), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(pooled(pooling, maps_), expected, atol=1e-2)


@pytest.mark.parametrize("seed", range(2))
def test_the_tuned_layer_learns_to_look_at_the_cell_that_tells(seed):
    (shots, labels), (test, truth) = distracting_maps(20, seed=seed), distracting_maps(200, seed=100 + seed)
    _, pooling = resnet_pool(seed)
    pure = normalize(torch.randn(5, 32, generator=torch.Generator().manual_seed(seed)), dim=1)
    training = PoolTrainingSettings(epochs=200, learning_rate=3e-3)
    tuned = tune_pooling(pooling, shots, labels, pure, logit_scale=100.0, settings=training, seed=0)
    before, after = (accuracy(normalize(pooled(pooling, test, w), dim=1) @ pure.T, truth) for w in (None, tuned))
    assert after >= before + 0.3


@quick
@given(seed=st.integers(0, 50), step=st.sampled_from(BLEND_ALPHAS))
def test_mixing_unit_features_labels_as_mixing_logits_does(seed, step):
    generator = torch.Generator().manual_seed(seed)
    frozen, tuned, rows = (torch.randn(60, 16, generator=generator) for _ in range(3))
    rows = normalize(rows, dim=1)
    mixed = blended(frozen, tuned, blend_alpha=step, kind="normalized") @ rows.T
    logits = step * normalize(tuned, dim=1) @ rows.T + (1 - step) * normalize(frozen, dim=1) @ rows.T
    assert torch.equal(mixed.argmax(1), logits.argmax(1))


def test_mixing_raw_features_favours_the_longer_branch():
    frozen, tuned = torch.eye(2)[:1], 3.0 * torch.eye(2)[1:]
    mixed = blended(frozen, tuned, blend_alpha=0.5, kind="raw")
    torch.testing.assert_close(mixed[0, 1] / mixed[0, 0], torch.tensor(3.0))
    assert torch.equal(blended(frozen, tuned, blend_alpha=1.0, kind="raw"), torch.eye(2)[1:])


@quick
@given(seed=st.integers(0, 20), kind=st.sampled_from(["normalized", "raw"]))
def test_the_sweep_gives_the_logits_of_the_classifier_fitted_at_the_point(seed, kind):
    problem, _ = make_problem([3, 4, 2], seed=seed)
    split = held_out_splits(problem, seed=0)[0]
    points = [BlendPoint(alpha, weight) for alpha in (0.0, 0.3, 1.0) for weight in (0.0, 2.0)]
    training_cache = InMemoryCache()
    weights = fit(split.problem, training_cache=training_cache, blend_alpha=1.0, image_weight=0.0).weights
    for point, swept in sweep(split, points, weights, kind=kind):
        classifier = fit(split.problem, training_cache=training_cache, blend=kind, **point._asdict())
        expected = classifier.logits(classifier.pool(split.queries.dense))
        torch.testing.assert_close(swept, expected, rtol=1e-5, atol=1e-3)


@quick
@given(seed=st.integers(0, 20))
def test_the_chosen_mixture_is_no_worse_on_held_out_shots_than_either_layer_but_for_chance(seed):
    problem, _ = make_problem([8, 8, 8, 8], seed=seed)
    training_cache, method = InMemoryCache(), Safe(**SHORT, image_weight=0.0)
    chosen = method.select(problem, seed=0, training_cache=training_cache).blend_alpha
    splits = held_out_splits(problem, seed=0)[: method.folds]
    queries = sum(len(split.queries) for split in splits)

    def right(alpha):
        fitted = (
            fit(split.problem, training_cache=training_cache, image_weight=0.0, blend_alpha=alpha) for split in splits
        )
        return sum(
            int((classifier.logits(classifier.pool(split.queries.dense)).argmax(1) == split.queries.labels).sum())
            for classifier, split in zip(fitted, splits, strict=True)
        )

    best = max(right(0.0), right(1.0))
    assert right(chosen) >= best - TIE_STANDARD_ERRORS * (best * (queries - best) / queries) ** 0.5 - 1e-6


def test_each_training_is_asked_of_the_memo_once():
    problem, _ = make_problem([8, 8, 8])
    trained = []

    class Counting(InMemoryCache):
        def __call__(self, key, make):
            return super().__call__(key, lambda: trained.append(key) or make())

    training_cache, method = Counting(), Safe(**SHORT)
    for split in held_out_splits(problem, seed=0)[: method.folds]:
        method.pretrain_fold(split, seed=0, training_cache=training_cache)
    pretrained = len(trained)
    method.select(problem, seed=0, training_cache=training_cache)
    assert len(trained) == pretrained == method.folds
    method.fit(problem, seed=0, training_cache=training_cache)
    assert len(set(trained)) == len(trained) == method.folds + 1


def test_the_bits_of_a_pooled_image_do_not_depend_on_the_others():
    there = World(3, dim=64)
    dense = there.problem([60, 60, 20]).support.dense
    order = torch.randperm(140, generator=torch.Generator().manual_seed(0))[:75]
    assert torch.equal(pooled(there.pooling, dense[order]), pooled(there.pooling, dense)[order])


def test_where_names_say_nothing_it_rests_on_the_images():
    there = World(6, dim=32, name_noise=float("inf"))
    problem = there.problem([8] * 6)
    images = there.images(torch.arange(120) % 6)
    classifier = fit(problem)
    nearest = NearestMean().fit(problem, seed=0).logits(images.features)
    found = accuracy(classifier.logits(classifier.pool(images.dense)), images.labels)
    assert found >= accuracy(nearest, images.labels) - 0.05


def test_the_rate_warms_up_and_falls_to_its_last_share():
    training = PoolTrainingSettings()
    assert [training.rate(done) for done in (0.0, 0.1, 0.2)] == [0.0, 0.5, 1.0]
    assert training.rate(1.0) == pytest.approx(training.last_rate)


def test_what_is_out_of_range_or_unknown_is_refused():
    for wrong in ({"blend_alpha": 1.1}, {"image_weight": -1.0}, {"learning_rate": 0.0}, {"loss_temperature": 0.0}):
        with pytest.raises(DataError, match=f"safe.{next(iter(wrong))}"):
            Safe(**wrong)
    with pytest.raises(DataError, match="normalized"):
        Safe(blend="weights")
    with pytest.raises(UnknownNameError, match="scope"):
        Safe(scope="block").fit(make_problem([2, 2])[0], seed=0)


def test_tokens_and_layer_must_be_there():
    problem, _ = make_problem([2, 2])
    without = problem.with_support(Labelled(problem.support.views, problem.support.labels))
    with pytest.raises(DataError, match="dense tokens"):
        fit(without)
