"""The acceptance properties of GDA that learns from the archive."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.gaussian_classes import Plane
from fewshot.methods.gda import Gda
from fewshot.methods.gda_u import GdaU
from fewshot.methods.gda_u import functional as gda_u
from fewshot.methods.gda_u.functional import Anchors, balance, balanced_offsets, in_order_of_content, learned_means
from fewshot.methods.gda_u.method import shares_of
from tests.problems import World, make_problem, problems, renumbered

quick = settings(max_examples=10, deadline=None)
CHOSEN = {"text_share": 0.0, "shares": {}, "temperature": 3.0, "weight": 1.0}
SHAPES = ("natural", "long tail", "a third of the classes", "foreign")


def archive_of(world, shape, *, count=400):
    """Return the images of an archive of a shape, and their labels; -1 for images of no class."""
    K = len(world.classes)
    labels = torch.arange(count) % K
    if shape == "long tail":
        each = [max(1, round(count / 3 * 0.01 ** (label / (K - 1)))) for label in range(K)]
        labels = torch.repeat_interleave(torch.arange(K), torch.tensor(each))
    if shape == "a third of the classes":
        labels = labels[labels < math.ceil(K / 3)]
    features = world.images(labels).features
    if shape == "foreign":
        elsewhere = World(7, dim=world.classes.shape[1], seed=99)
        features = torch.cat([features, elsewhere.test_images(count * 3 // 7)[0]])
        labels = torch.cat([labels, torch.full((count * 3 // 7,), -1)])
    return features, labels


def accuracy(classifier, features, labels):
    known = labels >= 0
    return float((classifier.logits(features[known]).argmax(dim=1) == labels[known]).double().mean())


def gains(shape, shots, *, method, worlds=6):
    """Return the mean gain over GDA in accuracy, on the images of the archive."""
    found = []
    for seed in range(worlds):
        world = World(9, dim=24, image_noise=1.6, name_noise=float("inf"), seed=seed)
        problem = world.problem([shots] * 9, views=1)
        features, labels = archive_of(world, shape)
        problem = replace(problem, archive=features)
        before = accuracy(Gda().fit(problem, seed=0), features, labels)
        found.append(accuracy(method(labels).fit(problem, seed=0), features, labels) - before)
    return sum(found) / len(found)


def with_archive(problem, features):
    return replace(problem, archive=features)


@quick
@given(made=problems(), seed=st.integers(0, 3))
def test_without_an_archive_it_is_gda_to_the_bit(made, seed):
    problem, features = made
    expected = Gda().fit(problem, seed=seed).logits(features)
    for archive in (None, features[:0]):
        found = fit_calibrated(GdaU(), replace(problem, archive=archive), seed=seed)
        assert torch.equal(found.classifier.logits(features), expected)
        assert found.scaling == fit_calibrated(Gda(), problem, seed=seed).scaling
        assert found.method.weight == 0.0


@quick
@given(made=problems(min_shots=1))
def test_where_hidden_examples_refute_it_it_is_gda_to_the_bit(made):
    problem, features = made
    refuted = GdaU(**CHOSEN | {"weight": 0.0}).fit(with_archive(problem, features), seed=0)
    assert torch.equal(refuted.logits(features), Gda(text_share=0.0).fit(problem, seed=0).logits(features))


@quick
@given(made=problems(min_shots=1), seed=st.integers(0, 3))
def test_the_order_of_the_sample_changes_no_bit(made, seed):
    problem, features = made
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    one, other = (GdaU(**CHOSEN).fit(with_archive(problem, x), seed=0) for x in (features, features[order]))
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)


def test_a_sample_has_an_order_of_its_own():
    sample = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(in_order_of_content(sample), in_order_of_content(sample.flip(0)))


def model(*, K=5, D=8, M=60):
    """Return anchors, a sample and scores that are a softmax of cosines."""
    generator = torch.Generator().manual_seed(3)
    means, sample = (normalize(torch.randn(n, D, generator=generator).double(), dim=1) for n in (K, M))
    background = sample.mean(dim=0, keepdim=True)

    def scores(means):
        weight = 4.0 * torch.cat([means, background])
        return Plane(weight, -0.1 * weight.square().sum(dim=1))

    return Anchors(means, torch.ones(K, dtype=torch.float64)), sample, scores


def learned(anchors, sample, scores, *, firmness=0.5, shares=None):
    K = len(anchors.weights)
    even = torch.full((K,), 1 / K, dtype=torch.float64)
    return learned_means(anchors, sample, scores, shares=even if shares is None else shares, firmness=firmness)


@pytest.mark.parametrize("tile", [1, 6, 42, 10**6])
def test_any_grouping_into_tiles_gives_the_same_means(tile, monkeypatch):
    anchors, sample, scores = model()
    expected = learned(anchors, sample, scores)
    monkeypatch.setattr(gda_u, "TILE_SCORES", tile)
    torch.testing.assert_close(learned(anchors, sample, scores), expected, rtol=0.0, atol=1e-10)


def test_every_image_twice_changes_nothing():
    anchors, sample, scores = model()
    found = learned(anchors, sample.repeat(2, 1), scores)
    torch.testing.assert_close(found, learned(anchors, sample, scores), rtol=0.0, atol=1e-10)


def test_means_are_those_of_the_formula():
    """The specification, written out once more with all images at a time."""
    anchors, sample, scores = model()
    anchors = Anchors(anchors.means, torch.tensor([1.0, 2.0, 3.0, 1.0, 5.0], dtype=torch.float64))
    shares = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1], dtype=torch.float64)
    means, M, K = anchors.means, len(sample), len(shares)
    for _ in range(3):
        plane = scores(means)
        s, f = sample @ plane.weight.T + plane.bias, torch.zeros(K + 1, dtype=torch.float64)
        for _ in range(20):
            mass = torch.softmax(s + f, dim=1).sum(dim=0)[:K]
            f = torch.cat([0.8 * (f[:K] + (shares * mass.sum() / mass).log()), torch.zeros(1, dtype=torch.float64)])
        z = torch.softmax(s + f, dim=1)[:, :K]
        pull = M / K * anchors.weights[:, None]
        means = (z.T @ sample + pull * anchors.means) / (z.sum(dim=0)[:, None] + pull)
    found = learned(anchors, sample, scores, firmness=4.0, shares=shares)
    torch.testing.assert_close(found, means, rtol=0.0, atol=1e-10)


def test_firm_balance_meets_the_shares_and_leaves_the_background_alone():
    anchors, sample, scores = model()
    plane, shares = scores(anchors.means), torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)
    offsets = balanced_offsets(sample, plane, shares, firmness=1e4)
    assert offsets[-1] == 0.0
    masses = torch.softmax(sample @ plane.weight.T + plane.bias + offsets, dim=1).sum(dim=0)[:-1]
    torch.testing.assert_close(masses / masses.sum(), shares, rtol=0.0, atol=1e-3)


def test_a_class_without_any_mass_gets_finite_offsets():
    scores = torch.tensor([[0.0, -2000.0, 0.0], [1.0, -2000.0, 0.0]], dtype=torch.float64)
    assert balance([scores], torch.tensor([0.5, 0.5], dtype=torch.float64), firmness=0.5).isfinite().all()


def test_the_balance_of_a_large_sample_is_found_on_its_first_images(monkeypatch):
    anchors, sample, scores = model()
    plane, even = scores(anchors.means), torch.full((5,), 0.2, dtype=torch.float64)
    expected = balanced_offsets(sample[:10], plane, even, firmness=0.5)
    monkeypatch.setattr(gda_u, "BALANCE_SCORES", 10 * 6)
    assert torch.equal(balanced_offsets(sample, plane, even, firmness=0.5), expected)


@quick
@given(made=problems(min_shots=1), seed=st.integers(0, 5))
def test_renumbering_the_classes_renumbers_the_logits(made, seed):
    problem, features = made
    problem, names = with_archive(problem, features), problem.label_space.names
    permutation = torch.randperm(problem.num_classes, generator=torch.Generator().manual_seed(seed))
    for shares in ({}, {names[0]: 0.6, names[1]: 0.1}):
        method = GdaU(**CHOSEN | {"shares": shares})
        expected = method.fit(problem, seed=0).logits(features)[:, permutation]
        found = method.fit(renumbered(problem, permutation), seed=0).logits(features)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_class_that_is_not_in_the_archive_stays_where_its_examples_are():
    world = World(6, dim=32, image_noise=0.4)
    problem = world.problem([2] * 6, views=1)
    archive = world.images(torch.arange(300) % 5).features
    mixture, sample = GdaU(**CHOSEN).mixture(with_archive(problem, archive))
    found = learned_means(mixture.anchors, sample, mixture.scores, shares=shares_of({}, ("a",) * 6), firmness=0.5)
    assert float(torch.cosine_similarity(found[5], mixture.anchors.means[5], dim=0)) > 0.99


def test_images_of_no_class_go_to_the_background():
    world = World(6, dim=32, image_noise=0.4)
    problem = world.problem([4] * 6, views=1)
    known, (strange, _) = world.test_images(200)[0], World(5, dim=32, seed=7).test_images(80)
    mixture, _ = GdaU(**CHOSEN).mixture(with_archive(problem, torch.cat([known, strange])))
    plane = mixture.scores(mixture.anchors.means)
    of_known, of_strange = (
        torch.softmax(rows.double() @ plane.weight.T + plane.bias, dim=1)[:, -1].mean() for rows in (known, strange)
    )
    assert of_strange > 4 * of_known


def test_the_background_is_a_class_with_the_mean_of_the_sample():
    problem, features = make_problem([2, 3, 2], views=1)
    mixture, sample = GdaU(**CHOSEN).mixture(with_archive(problem, features))
    torch.testing.assert_close(mixture.background[0], sample.double().mean(dim=0))
    plane = replace(mixture, background=mixture.anchors.means[:1]).scores(mixture.anchors.means)
    torch.testing.assert_close(plane.weight[-1], plane.weight[0])
    torch.testing.assert_close(plane.bias[-1], plane.bias[0])


def test_without_an_archive_known_shares_are_a_prior_at_the_temperature():
    problem, _ = make_problem([2, 3, 2], views=1)
    found = GdaU(**CHOSEN | {"shares": {"class_0": 0.7, "class_1": 0.2}}).fit(problem, seed=0)
    expected = CHOSEN["temperature"] * torch.tensor([2.1, 0.6, 0.3]).log()
    bias = Gda(text_share=0.0).fit(problem, seed=0).bias
    torch.testing.assert_close(found.bias - bias, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_example_a_class_gains_from_the_archive(shape):
    assert gains(shape, 1, method=lambda _: GdaU()) > (0.02 if shape == "natural" else -0.005)


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_examples_prevent_losses(shape):
    assert gains(shape, 4, method=lambda _: GdaU(), worlds=12) > -0.005


def test_with_two_examples_a_class_hidden_ones_do_not_decide():
    problem, features = make_problem([2] * 4, views=1)
    problem = with_archive(problem, features)
    assert GdaU().compare(problem, seed=0) == (GdaU().select(problem, seed=0), ())
    assert GdaU().select(problem, seed=0).weight == 0.0
    examples = replace(problem, val=make_problem([6] * 4)[0].support)
    assert len(GdaU().compare(examples, seed=0)[1]) == 2


@pytest.mark.parametrize("shape", ["long tail", "a third of the classes"])
def test_known_shares_gain_much_in_a_skewed_archive(shape):
    def method(labels):
        counts = torch.bincount(labels, minlength=9)
        return GdaU(shares={f"class_{label}": int(n) / len(labels) for label, n in enumerate(counts)})

    for shots in (1, 4):
        assert gains(shape, shots, method=method) > 0.08


def test_the_gate_is_shut_where_the_archive_misleads():
    """Clusters of the archive lie between the classes."""
    world = World(8, dim=24, image_noise=0.8, name_noise=float("inf"))
    problem = world.problem([4] * 8, views=1)
    between = normalize(world.classes + world.classes.roll(1, dims=0), dim=1).repeat(40, 1)
    selected, results = GdaU().compare(with_archive(problem, between), seed=0)
    assert selected.weight == 0.0
    assert [result.method for result in results] == ["gda", "gda_u"]


def test_the_gate_opens_where_hidden_examples_gain():
    opened = 0
    for seed in range(4):
        world = World(12, dim=64, image_noise=2.0, name_noise=float("inf"), seed=seed)
        problem = with_archive(world.problem([4] * 12, views=1), world.images(torch.arange(1200) % 12).features)
        selected, results = GdaU().compare(problem, seed=0)
        assert (results[0].method == "gda_u") == (selected.weight == 1.0)
        opened += selected.weight
    assert opened >= 3


def test_the_weight_is_decided_on_the_same_folds_whatever_the_seed():
    world = World(12, dim=64, image_noise=2.0, name_noise=float("inf"))
    problem = with_archive(world.problem([4] * 12, views=1), world.images(torch.arange(600) % 12).features)
    assert len({GdaU(text_share=0.0).select(problem, seed=seed).weight for seed in range(4)}) == 1


def test_the_temperature_is_that_of_the_same_folds_whatever_the_seed():
    problem = World(5, seed=1).problem([4] * 5, views=1)
    assert len({GdaU(text_share=0.5).filled_in(problem, seed=seed).temperature for seed in range(4)}) == 1


def test_a_weight_of_zero_is_kept_where_one_would_be_chosen():
    problem, features = make_problem([1] * 5)
    for weight, chosen in ((None, 1.0), (1.0, 1.0), (0.0, 0.0)):
        assert GdaU(weight=weight).compare(with_archive(problem, features), seed=0)[0].weight == chosen


def test_an_archive_without_examples_helps_nothing():
    problem, features = make_problem([0] * 3)
    assert GdaU().compare(with_archive(problem, features), seed=0)[0].weight == 0.0


def test_a_weight_that_is_given_is_tested_too():
    problem, features = make_problem([4] * 5, views=1)
    for weight in (None, 1.0):
        assert GdaU(weight=weight).select(with_archive(problem, features[:1]), seed=0).weight == 0.0


def test_shares_that_are_given_are_those_that_are_expected():
    problem, features = make_problem([3] * 3)
    found = GdaU(**CHOSEN | {"shares": {"class_1": 0.8}}).expected_shares(with_archive(problem, features))
    torch.testing.assert_close(found, torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64))
    unknown = GdaU(**CHOSEN).expected_shares(with_archive(problem, features))
    assert float((unknown - found).abs().max()) > 0.05


def test_shares_that_are_not_given_are_even_parts_of_the_rest():
    expected = torch.tensor([0.7, 0.15, 0.15], dtype=torch.float64)
    torch.testing.assert_close(shares_of({"a": 0.7}, ("a", "b", "c")), expected)
    assert (shares_of({"a": 0.0, "b": 1.0}, ("a", "b")) > 0.0).all()
    hundredths = GdaU(shares={"a": 0.55, "b": 0.34, "c": 0.11}).shares  # Their sum is above 1, in binary.
    assert float(shares_of(hundredths, ("a", "b", "c")).sum()) == pytest.approx(1.0)
    with pytest.raises(DataError, match="are 0 for all 2 classes"):
        shares_of({"a": 0.0, "b": 0.0}, ("a", "b"))


@pytest.mark.parametrize(
    ("hyperparameters", "match"),
    [
        ({"shares": {"cat": 0.7, "dog": 0.4}}, r"gda_u\.shares must sum to at most 1, got 1\.1"),
        ({"shares": {"cat": -0.1}}, r"gda_u\.shares\.cat must be a number in \[0, 1\]"),
        ({"shares": 0.5}, r"gda_u\.shares must give class names"),
        ({"weight": 0.5}, r"gda_u\.weight must be 0 or 1"),
        ({"temperature": 0.0}, r"gda_u\.temperature"),
        ({"text_share": 2.0}, r"gda\.text_share"),
    ],
)
def test_a_value_out_of_range_is_refused(hyperparameters, match):
    with pytest.raises(DataError, match=match):
        GdaU(**hyperparameters)


def test_a_share_of_an_unknown_class_is_refused():
    problem, _ = make_problem([2, 2])
    with pytest.raises(DataError, match=r"unknown class in gda_u\.shares 'class_7'"):
        GdaU(shares={"class_7": 0.5}).fit(problem, seed=0)


@pytest.mark.parametrize("archive", [torch.zeros(3, 5), torch.full((2, 16), float("nan"))])
def test_an_archive_of_another_shape_or_without_numbers_is_refused(archive):
    with pytest.raises(DataError, match="archive"):
        with_archive(make_problem([2, 2])[0], archive)
