"""The acceptance properties of GDA."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fewshot.calibration.calibrate import fit_calibrated
from fewshot.errors import DataError
from fewshot.methods.gda import Gda
from fewshot.methods.gda.functional import with_means_from_text
from fewshot.methods.gda.method import TEXT_SHARES
from fewshot.methods.nearest_mean import NearestMean
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from tests.problems import Cluttered, World, make_problem, problems, repeated

quick = settings(max_examples=10, deadline=None)


def logits(problem, features, **hyperparameters):
    return Gda(**hyperparameters).fit(problem, seed=0).logits(features)


def centred(values):
    """Scores less their mean over the classes, which no probability depends on."""
    return values - values.mean(dim=1, keepdim=True)


def accuracy(logits, labels):
    return float((logits.argmax(dim=1) == labels).double().mean())


@quick
@given(made=problems())
def test_if_the_text_has_the_whole_share_it_is_zero_shot(made):
    """To the last bits: the scale is a factor of the stored matrix, not of its product."""
    problem, features = made
    expected = ZeroShot().fit(problem, seed=0).logits(features)
    torch.testing.assert_close(logits(problem, features, text_share=1.0), expected, rtol=1e-6, atol=1e-5)


@quick
@given(made=problems(min_shots=1))
def test_strongly_shrunk_it_is_the_nearest_mean_by_euclidean_distance(made):
    problem, features = made
    rows, labels = normalize(problem.support.views.double(), dim=-1), problem.support.labels
    means = torch.stack([rows[labels == label].flatten(0, 1).mean(dim=0) for label in range(problem.num_classes)])
    expected = -0.5 * problem.logit_scale * (features.double()[:, None] - means).square().sum(dim=2)
    found = logits(problem, features, text_share=0.0, shrinkage=1e9)
    torch.testing.assert_close(centred(found), centred(expected).float(), rtol=1e-4, atol=1e-3)


def test_one_view_of_one_shot_is_nearest_mean_with_the_same_weight_of_the_text():
    problem, features = make_problem([1, 1, 1, 1], views=1)
    nearest = NearestMean(text_weight=0.5).fit(problem, seed=0).logits(features)
    unit = (problem.support.cache_keys[problem.support.labels.argsort()] + 0.5 * problem.class_embeddings).norm(dim=1)
    expected = centred(nearest * unit / 1.5)
    torch.testing.assert_close(centred(logits(problem, features, text_share=1 / 3)), expected, rtol=1e-4, atol=1e-3)
    assert Gda().select(problem, seed=0).text_share <= 1 / 3


@quick
@given(made=problems(min_shots=1), share=st.sampled_from(TEXT_SHARES))
def test_the_merged_map_is_the_formula_of_two_terms(made, share):
    problem, features = made
    method = Gda(text_share=share)
    plane, wide = method.plane(problem), features.double()
    gaussian = wide @ plane.weight.T + plane.bias
    text = wide @ problem.class_embeddings.double().T
    expected = problem.logit_scale * ((1.0 - share) * gaussian + share * text)
    torch.testing.assert_close(logits(problem, features, text_share=share), expected.float(), rtol=1e-5, atol=1e-3)


@quick
@given(made=problems(min_shots=1))
def test_listing_every_shot_twice_changes_no_bit(made):
    problem, features = made
    found = logits(repeated(problem, 2), features, text_share=0.0)
    assert torch.equal(found, logits(problem, features, text_share=0.0))


@quick
@given(made=problems(min_shots=1))
def test_repeating_every_view_changes_nothing_where_images_count(made):
    problem, features = made
    twice = problem.with_support(replace(problem.support, views=problem.support.views.repeat(1, 2, 1)))
    expected = logits(problem, features, text_share=0.0)
    torch.testing.assert_close(logits(twice, features, text_share=0.0), expected, rtol=1e-4, atol=1e-3)


def test_where_views_count_the_covariance_is_shrunk_less():
    problem, features = make_problem([4] * 4, views=3)
    nearest = centred(logits(problem, features, text_share=0.0, shrinkage=1e9))
    images, views = (
        (centred(logits(problem, features, text_share=0.0, n_effective=rows)) - nearest).norm()
        for rows in ("images", "views")
    )
    assert views > 1.05 * images


@pytest.mark.parametrize("counts", [[1, 0], [1, 0, 0], [5, 0], [1, 1]])
def test_no_scatter_or_no_other_class_gives_finite_logits(counts):
    problem, features = make_problem(counts, views=1)
    alike = problem.with_support(replace(problem.support, views=problem.support.views[:1].repeat(sum(counts), 1, 1)))
    for one in (problem, alike):
        assert logits(one, features, text_share=0.0).isfinite().all()


def test_a_class_without_examples_lies_where_its_text_does():
    generator = torch.Generator().manual_seed(0)
    text = normalize(torch.randn(9, 16, generator=generator, dtype=torch.float64), dim=1)
    gap = torch.randn(16, generator=generator, dtype=torch.float64)
    has_images = torch.arange(9) < 7
    truth = gap + 0.3 * text
    found = with_means_from_text(truth.where(has_images[:, None], torch.zeros(())), has_images, text)
    torch.testing.assert_close(found, truth)


def test_where_texts_say_nothing_a_class_without_examples_lies_in_the_middle():
    text = torch.eye(4, dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    means, has_images = torch.cat([means, torch.zeros(1, 4)]), torch.arange(4) < 3
    found = with_means_from_text(means, has_images, text)
    torch.testing.assert_close(found[:3], means[:3])
    torch.testing.assert_close(found[3], means[:3].mean(dim=0))


def test_a_class_without_examples_is_found_by_its_text_without_costing_the_others():
    world = World(12, dim=32, name_noise=0.7, image_noise=1.0)
    problem = world.problem([8] * 8 + [0] * 4, views=1)
    features, labels = world.test_images(600)
    found = Gda().fit(problem, seed=0).logits(features)
    known = labels < 8
    assert accuracy(found[~known][:, 8:], labels[~known] - 8) > 0.8
    assert accuracy(found[~known], labels[~known]) > 0.2
    assert accuracy(found[known], labels[known]) > accuracy(found[known][:, :8], labels[known]) - 0.1


def test_without_any_shots_it_is_zero_shot_whatever_the_share():
    problem, features = make_problem([0, 0, 0])
    expected = ZeroShot().fit(problem, seed=0).logits(features)
    for share in (None, 0.0):
        torch.testing.assert_close(logits(problem, features, text_share=share), expected, rtol=1e-6, atol=1e-5)


def test_the_sweep_gives_the_logits_of_a_fit():
    problem, _ = make_problem([3, 2, 4])
    for split in held_out_splits(problem, seed=0):
        for share, found in Gda()._sweep(split, TEXT_SHARES):
            assert torch.equal(found, logits(split.problem, split.queries.features, text_share=share))


@pytest.mark.parametrize(("name_noise", "expected"), [(float("inf"), range(2)), (0.3, range(2, 9))])
def test_the_share_of_the_text_is_large_only_where_names_say_something(name_noise, expected):
    problem, _ = make_problem([4] * 8, name_noise=name_noise, image_noise=3.0, dim=32)
    assert Gda().select(problem, seed=0).text_share in [TEXT_SHARES[index] for index in expected]


def test_directions_shared_by_all_classes_count_less_than_for_the_nearest_mean():
    world = Cluttered(5, dim=32)
    problem, (features, labels) = world.problem([16] * 5, views=1), world.test_images(500)
    nearest = accuracy(NearestMean(text_weight=0.0).fit(problem, seed=0).logits(features), labels)
    assert accuracy(logits(problem, features, text_share=0.0), labels) > nearest + 0.1


def test_calibration_uses_all_four_folds():
    problem, _ = make_problem([4] * 5)
    assert fit_calibrated(Gda(), problem, seed=0).report.images == 20


@pytest.mark.parametrize(("name", "value"), [("text_share", 1.5), ("shrinkage", 0.0), ("n_effective", "shots")])
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises((DataError, LookupError), match=rf"gda\.{name}"):
        Gda(**{name: value})
