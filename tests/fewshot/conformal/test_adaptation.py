"""Ranks of labels and sets of labels by full conformal adaptation."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.conformal import ConformalExamples, adaptation, label_sets, rejected_ranks
from fewshot.errors import DataError
from fewshot.problem import Labelled
from tests.problems import make_problem, shuffled

quick = settings(max_examples=15, deadline=None)
SCALE = 30.0


def directions(*shape, generator):
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def world(N, K, *, D=8, seed=0, images=5, noise=1.0):
    """Return N examples of K classes and other images with their labels, all drawn alike."""
    generator = torch.Generator().manual_seed(seed)
    classes = directions(K, D, generator=generator)
    labels = torch.randint(K, (N + images,), generator=generator)
    features = normalize(classes[labels] + noise * directions(N + images, D, generator=generator), dim=1)
    text = normalize(classes + directions(K, D, generator=generator), dim=1)
    return ConformalExamples(features[:N], labels[:N], text, SCALE), features[N:], labels[N:]


def plain_score(examples, rest, row):
    """Return log p / (1 - p) of the label of an image, by the head of the rows `rest`."""
    features, labels = examples.features, examples.labels
    chosen = torch.zeros(len(features), dtype=torch.float64).index_fill(0, torch.tensor(rest, dtype=torch.int64), 1.0)
    weight = (examples.text / examples.logit_scale).index_add(0, labels, chosen[:, None] * features)
    logits = examples.logit_scale * normalize(weight, dim=1) @ features[row]
    label = int(labels[row])
    return float(logits[label] - torch.logsumexp(torch.cat([logits[:label], logits[label + 1 :]]), dim=0))


def plain_rank(examples, image, label):
    """Return the rank by N + 1 solutions from scratch."""
    joined = replace(
        examples,
        features=torch.cat([examples.features, image[None]]),
        labels=torch.cat([examples.labels, torch.tensor([label])]),
    )
    rows = range(len(joined))
    scores = [plain_score(joined, [other for other in rows if other != row], row) for row in rows]
    return sum(score <= scores[-1] + 1e-9 for score in scores)


def plain_ranks(examples, images):
    labels = range(len(examples.text))
    return torch.tensor([[plain_rank(examples, image, label) for label in labels] for image in images])


@quick
@given(N=st.integers(0, 12), K=st.integers(1, 5), seed=st.integers(0, 99))
def test_ranks_equal_those_of_solutions_from_scratch(N, K, seed):
    examples, images, _ = world(N, K, seed=seed)
    assert torch.equal(examples.ranks(images), plain_ranks(examples, images))


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0])
def test_ranks_are_exact_where_probabilities_are_near_0_and_1(scale):
    examples, images, _ = world(12, 4, noise=0.3, seed=1)
    examples = replace(examples, logit_scale=scale)
    assert torch.equal(examples.ranks(images), plain_ranks(examples, images))


def test_an_example_that_cancels_the_text_of_its_class_leaves_logits_of_zero():
    examples, images, _ = world(6, 3, seed=4)
    features = torch.cat([-examples.text[:1], examples.features[1:]])
    examples = ConformalExamples(features, torch.tensor([0, 1, 1, 2, 2, 2]), examples.text, 1.0)
    assert torch.equal(examples.ranks(images), plain_ranks(examples, images))


@pytest.mark.parametrize("N", [10, 100])
def test_sets_contain_the_true_label_at_the_stated_rate(N):
    trials, hits = 2000, {0.05: 0, 0.1: 0, 0.2: 0}
    for seed in range(trials):
        examples, images, labels = world(N, 3, seed=seed, images=1)
        ranks = examples.ranks(images)
        for max_error in hits:
            hits[max_error] += bool(label_sets(ranks, examples=N, max_error=max_error)[0, labels[0]])
    for max_error, hit in hits.items():
        least, most = 1.0 - max_error, 1.0 - max_error + 1.0 / (N + 1)
        margin = 3.0 * (max_error * least / trials) ** 0.5
        assert least - margin <= hit / trials <= most + margin


def test_balanced_examples_err_on_the_safe_side():
    K, trials, hits = 10, 300, 0
    for seed in range(trials):
        generator = torch.Generator().manual_seed(seed)
        classes = directions(K, 8, generator=generator)
        labels = torch.cat([torch.arange(K).repeat(2), torch.randint(K, (1,), generator=generator)])
        features = normalize(classes[labels] + directions(len(labels), 8, generator=generator), dim=1)
        examples = ConformalExamples(features[:-1], labels[:-1], classes, SCALE)
        hits += bool(label_sets(examples.ranks(features[-1:]), examples=2 * K, max_error=0.2)[0, labels[-1]])
    assert hits / trials >= 0.8


def test_one_example_of_each_class_rejects_nothing():
    generator = torch.Generator().manual_seed(0)
    features = directions(20, 64, generator=generator)
    examples = ConformalExamples(features, torch.arange(20), directions(20, 64, generator=generator), 100.0)
    same = normalize(features + 0.5 * directions(20, 64, generator=generator), dim=1)
    sets = label_sets(examples.ranks(same), examples=20, max_error=0.1)
    assert sets.diagonal().all()


def test_sets_are_nested_in_the_maximum_error():
    examples, images, _ = world(40, 4, images=50)
    ranks = examples.ranks(images)
    sets = [label_sets(ranks, examples=40, max_error=error) for error in (0.01, 0.05, 0.1, 0.2, 0.5, 0.9)]
    assert all((smaller <= larger).all() for larger, smaller in pairwise(sets))
    assert sets[0].all()
    assert not sets[-1].all()


def test_three_hundred_classes_most_without_examples():
    examples, images, _ = world(60, 300, D=32, images=3)
    examples = replace(examples, labels=examples.labels % 7)
    ranks = examples.ranks(images)
    assert ranks.shape == (3, 300)
    assert ((ranks >= 1) & (ranks <= 61)).all()


@pytest.mark.parametrize("text", [True, False])
def test_equal_images_have_equal_ranks(text):
    """Scores of an image and of examples are not computed alike: rounding alone must not order them."""
    for seed in range(12):
        examples, _, _ = world(1, 3, D=32, seed=seed)
        same = examples.features.expand(12, -1)
        examples = ConformalExamples(same, torch.arange(12) % 3, examples.text * text, SCALE)
        assert (examples.ranks(same[:2]) == 13).all()
        assert (examples.ranks(-same[:2]) >= 1).all()


def test_an_image_that_equals_all_examples_of_its_class_keeps_its_label():
    """Images are unit rows in single precision, whose length is 1 but for a part in ten million."""
    for seed in range(20):
        problem, _ = make_problem([12, 0, 0], seed=seed, views=1)
        same = problem.support[torch.zeros(12, dtype=torch.int64)]
        examples = ConformalExamples.from_problem(problem.with_support(same))
        assert int(examples.ranks(same.features[:1])[0, 0]) == 13


def test_a_rank_depends_on_neither_order_nor_other_images(monkeypatch):
    problem, features = make_problem([3, 2, 0, 4], seed=2)
    examples = ConformalExamples.from_problem(problem)
    ranks = examples.ranks(features)
    assert torch.equal(ConformalExamples.from_problem(shuffled(problem)).ranks(features), ranks)
    assert torch.equal(torch.cat([examples.ranks(row[None]) for row in features]), ranks)
    monkeypatch.setattr(adaptation, "BLOCK_SCORES", 80)
    assert torch.equal(examples.ranks(features), ranks)


def test_neither_lengths_of_features_nor_augmented_views_change_a_rank():
    problem, features = make_problem([3, 2, 4], seed=2, views=3)
    expected = ConformalExamples.from_problem(problem).ranks(features)
    lengths = torch.linspace(0.1, 10.0, 9)[:, None, None]
    longer = Labelled(problem.support.views * lengths, problem.support.labels)
    other = Labelled(problem.support.views * torch.tensor([1.0, 2.0, -1.0])[:, None], problem.support.labels)
    for changed in (longer, other):
        assert torch.equal(ConformalExamples.from_problem(problem.with_support(changed)).ranks(features), expected)


def test_ranks_follow_renumbered_classes():
    examples, images, _ = world(20, 5, seed=3)
    permutation = torch.tensor([3, 0, 4, 1, 2])
    renumbered = replace(examples, text=examples.text[permutation], labels=permutation.argsort()[examples.labels])
    assert torch.equal(renumbered.ranks(images), examples.ranks(images)[:, permutation])


def test_no_images_have_no_ranks():
    examples, images, _ = world(5, 4)
    assert examples.ranks(images[:0]).shape == (0, 4)


@pytest.mark.parametrize("max_error", [0.0, 1.0, -0.1, float("nan")])
def test_a_maximum_error_out_of_range_is_refused(max_error):
    with pytest.raises(DataError, match="share of rejected ranks must lie between 0 and 1"):
        label_sets(torch.ones(1, 2, dtype=torch.int64), examples=3, max_error=max_error)


def test_a_share_of_ranks_is_not_lost_to_rounding():
    assert label_sets(torch.tensor([[7, 8]]), examples=9, max_error=0.7).tolist() == [[False, True]]
    assert rejected_ranks(99, share=0.29) == 29


def test_a_scale_of_zero_is_refused():
    examples, _, _ = world(5, 4)
    with pytest.raises(DataError, match="logit scale must be positive"):
        replace(examples, logit_scale=0.0)
