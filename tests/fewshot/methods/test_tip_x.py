"""The acceptance properties of Tip-X."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import log_softmax, one_hot, softmax

from fewshot.errors import DataError
from fewshot.key_value_cache.kernel import Cache
from fewshot.methods.tip_adapter import TipAdapter
from fewshot.methods.tip_x import TipX
from fewshot.methods.tip_x.functional import Signatures, collapse, frozen_psi
from fewshot.methods.tip_x.method import TipXPoint
from fewshot.methods.zero_shot import ZeroShot
from fewshot.model_selection.cross_validation import held_out_splits
from tests.problems import World, make_problem, problems, repeated

quick = settings(max_examples=15, deadline=None)
FIXED = {"alpha": 2.0, "beta": 3.0, "gamma": 5.0}


def logits(problem, features, **hyperparameters):
    return TipX(**{**FIXED, **hyperparameters}).fit(problem, seed=0).logits(features)


def plain_divergences(problem, features, keys, *, tau=0.5):
    """[N, M]: the definition, N x M x K numbers."""
    p, q = (log_softmax(rows.double() @ problem.class_embeddings.double().T / tau, dim=1) for rows in (features, keys))
    return (p.exp()[:, None] * (p[:, None] - q[None])).sum(dim=2)


def plain_psi(problem):
    """Slope and offset of the map from the range of D to that of the cosines, over pairs of different shots."""
    shots = problem.support
    others = ~torch.eye(len(shots), dtype=torch.bool)
    divergences = plain_divergences(problem, shots.features, shots.cache_keys)[others]
    cosines = (shots.features.double() @ shots.cache_keys.double().T)[others]
    slope = (cosines.max() - cosines.min()) / (divergences.max() - divergences.min())
    return slope, cosines.min() - slope * divergences.min(), cosines.max()


@quick
@given(made=problems(), tau=st.sampled_from([0.1, 0.5, 2.0]))
def test_reduced_divergences_are_the_definition_of_kl(made, tau):
    problem, features = made
    signatures, keys = Signatures.from_text(problem.class_embeddings, tau=tau), Cache.from_problem(problem).keys
    expected = plain_divergences(problem, features, keys, tau=tau).float()
    torch.testing.assert_close(signatures.divergences(features, keys), expected, rtol=1e-4, atol=2e-6)


@quick
@given(made=problems(min_shots=1), tau=st.sampled_from([0.1, 0.5]))
def test_divergences_are_not_negative_and_zero_for_equal_images(made, tau):
    problem, features = made
    divergences = Signatures.from_text(problem.class_embeddings, tau=tau).divergences(features, features)
    assert divergences.min() > -2e-6
    assert divergences.diagonal().abs().max() < 2e-6


def test_a_thousand_classes_leave_the_divergences_their_digits():
    """They are of the order of 0.001, and log K is 7."""
    problem, features = make_problem([1] * 1000, dim=64)
    expected = plain_divergences(problem, features[:5], problem.support.cache_keys[:5], tau=2.0).float()
    assert expected.max() < 0.01
    found = Signatures.from_text(problem.class_embeddings, tau=2.0).divergences(
        features[:5], problem.support.cache_keys[:5]
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


@quick
@given(made=problems(min_shots=2, equal=True))
def test_with_equal_shots_it_is_the_published_formula_up_to_a_constant(made):
    problem, features = made
    slope, offset, highest = plain_psi(problem)
    values = one_hot(problem.support.labels, problem.num_classes).double()
    divergences = plain_divergences(problem, features, problem.support.cache_keys)
    published = TipAdapter(alpha=2.0, beta=3.0).fit(problem, seed=0).logits(features) + 5.0 * (
        -(slope * divergences + offset) @ values
    )
    shots = len(problem.support) / problem.num_classes
    expected = (published + 5.0 * shots * highest).float()
    torch.testing.assert_close(logits(problem, features), expected, rtol=1e-3, atol=1e-3)


@quick
@given(made=problems())
def test_with_ragged_shots_a_class_has_the_mean_vote_of_its_keys(made):
    problem, features = made
    cache, signatures = Cache.from_problem(problem), Signatures.from_text(problem.class_embeddings, tau=0.5)
    psi = frozen_psi(problem, signatures)
    expected = torch.zeros(len(features), problem.num_classes, dtype=torch.float64)
    for label in range(problem.num_classes):
        if (cache.labels == label).any():
            divergences = plain_divergences(problem, features, cache.keys[cache.labels == label])
            expected[:, label] = psi.slope * (psi.highest - divergences).mean(dim=1)
    expected *= len(cache.keys) / max(1, int((cache.counts > 0).sum()))
    for memory_bytes in (1, 2**20):
        found = collapse(cache.keys, cache.counts, signatures, psi, memory_bytes=memory_bytes)
        torch.testing.assert_close(found.votes(features, signatures), expected.float(), rtol=1e-3, atol=1e-3)


@quick
@given(made=problems(min_shots=1))
def test_psi_maps_the_range_of_divergences_between_shots_to_that_of_cosines(made):
    problem, _ = made
    slope, _, _ = plain_psi(problem)
    for shots in (problem, repeated(problem, 2)):
        for memory_bytes in (1, 2**20):
            psi = frozen_psi(shots, Signatures.from_text(problem.class_embeddings, tau=0.5), memory_bytes=memory_bytes)
            torch.testing.assert_close(psi.slope, float(slope), rtol=1e-3, atol=0.0)


def test_with_one_shot_in_all_there_is_nothing_to_compare():
    problem, features = make_problem([0, 1, 0])
    assert frozen_psi(problem, Signatures.from_text(problem.class_embeddings, tau=0.5)).slope == 0.0
    tip = TipAdapter(alpha=2.0, beta=3.0).fit(problem, seed=0).logits(features)
    torch.testing.assert_close(logits(problem, features), tip)


@quick
@given(made=problems(), alpha=st.floats(0, 50), beta=st.floats(0, 20))
def test_gamma_zero_is_tip_adapter_exactly(made, alpha, beta):
    problem, features = made
    tip = TipAdapter(alpha=alpha, beta=beta).fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, alpha=alpha, beta=beta, gamma=0.0), tip)


@quick
@given(made=problems())
def test_alpha_and_gamma_zero_are_zero_shot_exactly(made):
    problem, features = made
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits(problem, features, alpha=0.0, gamma=0.0), zero_shot)


@quick
@given(made=problems())
def test_no_vote_by_divergence_for_a_class_without_shots(made):
    problem, features = made
    classifier = TipX(**FIXED).fit(problem, seed=0)
    zero_shot = ZeroShot().fit(problem, seed=0).logits(features)
    unseen = problem.counts == 0
    torch.testing.assert_close(classifier.logits(features)[:, unseen], zero_shot[:, unseen])


@pytest.mark.parametrize("rows", [1, 99, 101, 250])
def test_any_number_of_images_gives_the_rows_that_all_of_them_give(rows):
    there = World(5)
    classifier = TipX(**FIXED).fit(there.problem([3] * 5), seed=0)
    features, _ = there.test_images(250)
    torch.testing.assert_close(
        classifier.logits(features[:rows]), classifier.logits(features)[:rows], rtol=1e-5, atol=1e-4
    )


@quick
@given(made=problems(), gamma=st.floats(0.1, 20))
def test_listing_every_shot_twice_is_doubling_alpha_and_gamma(made, gamma):
    problem, features = made
    twice = logits(repeated(problem, 2), features, gamma=gamma)
    once = logits(problem, features, alpha=4.0, gamma=2 * gamma)
    torch.testing.assert_close(twice, once, rtol=1e-3, atol=2e-3)


def test_the_sweep_gives_the_logits_of_a_fit():
    problem, _ = make_problem([3, 2, 4])
    points = [TipXPoint(gamma, alpha, beta) for gamma in (0.0, 3.0) for alpha in (0.0, 8.0) for beta in (0.5, 8.0)]
    for split in held_out_splits(problem, seed=0):
        swept = dict(TipX()._sweep(split, points))
        assert swept.keys() == set(points)
        for point, found in swept.items():
            expected = logits(split.problem, split.queries.features, **point._asdict())
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_signatures_are_those_of_the_uncentred_text():
    problem, features = make_problem([2, 2, 2])
    signatures = Signatures.from_text(problem.class_embeddings, tau=0.5)
    assert torch.allclose(
        softmax(features @ signatures.text.T, 1), softmax(features @ problem.class_embeddings.T / 0.5, 1)
    )


@pytest.mark.parametrize("wrong", [{"gamma": -1.0}, {"tau": 0.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        TipX(**wrong)
