import torch

from fewshot.methods.zero_shot import ZeroShot
from tests.problems import make_problem


def test_zero_shot_ignores_the_shots():
    problem, features = make_problem([3, 3, 3])
    none = problem.with_support(problem.support[:0])
    logits = ZeroShot().fit(problem, seed=0).logits(features)
    assert torch.equal(logits, ZeroShot().fit(none, seed=0).logits(features))
    torch.testing.assert_close(logits, 100.0 * features @ problem.class_embeddings.T)


def test_the_scale_is_the_backbones():
    problem, features = make_problem([1, 1])
    scaled = type(problem)(problem.label_space, problem.class_embeddings, problem.support, None, 50.0)
    one, half = (ZeroShot().fit(given, seed=0).logits(features) for given in (problem, scaled))
    torch.testing.assert_close(half, one / 2.0)
