"""Small few-shot problems of random directions, and transformations of problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from fewshot.backbones.pooling import Pooling, attention_pools
from fewshot.problem import Labelled, LabelSpace, Problem
from tests.towers import tiny_tower


def space(num_classes: int) -> LabelSpace:
    names = tuple(f"class_{label}" for label in range(num_classes))
    return LabelSpace(names, tuple(name.replace("_", " ") for name in names), ("",) * num_classes)


TOKENS = 4


def average_pooling(dim: int) -> Pooling:
    """Return a pooling layer of 2 heads over 2 x 2 maps [B, 4, dim] that starts close to the mean."""
    generator = torch.Generator().manual_seed(0)
    query, value, output = (nn.utils.skip_init(nn.Linear, dim, dim) for _ in range(3))
    key = 0.02 * torch.randn(dim, dim, generator=generator)
    with torch.no_grad():
        query.weight.normal_(std=0.02, generator=generator)
        for same in (value, output):
            same.weight.copy_(torch.eye(dim))
        for layer in (query, value, output):
            layer.bias.zero_()
    return Pooling(
        attention_pools.MapPool(torch.zeros(TOKENS + 1, dim), query, key, value, output, heads=2),
        attention_pools.MAP_POOL_SCOPES,
    )


class World:
    """Classes are random directions; images and text embeddings are the direction of their class plus noise.

    Args:
        num_classes: K.
        dim: D.
        name_noise: size of the noise of a text embedding; infinity for meaningless names.
        image_noise: size of the noise of an image.
        seed: of all random numbers.
    """

    def __init__(
        self, num_classes: int, *, dim: int = 16, name_noise: float = 1.0, image_noise: float = 1.0, seed: int = 0
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.token_generator = torch.Generator().manual_seed(seed)
        self.pooling = average_pooling(dim)
        self.image_noise = image_noise
        self.classes = self.directions(num_classes, dim)
        noise = self.directions(num_classes, dim)
        self.text = normalize(noise if name_noise == float("inf") else self.classes + name_noise * noise, dim=1)

    def directions(self, *shape: int) -> Tensor:
        return normalize(torch.randn(*shape, generator=self.generator), dim=-1)

    def images(self, labels: Tensor, *, views: int = 1) -> Labelled:
        images = self.classes[labels] + self.image_noise * self.directions(len(labels), self.classes.shape[1])
        features = 7.0 * (images[:, None] + 0.1 * self.directions(len(labels), views, images.shape[1]))
        return Labelled(features, labels, self.dense(features[:, 0]))

    def dense(self, pooled: Tensor) -> Tensor:
        """Return tokens [M, 4, D] for `average_pooling`, whose mean is `pooled` [M, D]."""
        noise = torch.randn(len(pooled), TOKENS // 2, pooled.shape[1], generator=self.token_generator)
        return (pooled[:, None] + torch.cat([noise, -noise], dim=1)).half()

    def problem(self, counts: Sequence[int], *, views: int = 3) -> Problem:
        """Return a problem with shots in random order, `counts[i]` of class i."""
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        labels = labels[torch.randperm(len(labels), generator=self.generator)]
        shots = self.images(labels, views=views)
        tower = tiny_tower(self.text.shape[1])
        return Problem(space(len(counts)), self.text, shots, None, 100.0, text_tower=tower, pooling=self.pooling)

    def test_images(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the features [count, D] and labels [count] of random test images."""
        labels = torch.randint(len(self.classes), (count,), generator=self.generator)
        return self.images(labels).features, labels


class Cluttered(World):
    """Images whose largest part, in a few directions shared by all classes, is independent of the class."""

    def images(self, labels: Tensor, *, views: int = 1) -> Labelled:
        clutter = torch.randn(len(labels), 4, generator=self.generator) @ torch.eye(4, self.classes.shape[1])
        images = self.classes[labels] + clutter + 0.5 * self.directions(len(labels), self.classes.shape[1])
        return Labelled(images[:, None].expand(-1, views, -1).clone(), labels)


def make_problem(counts: Sequence[int], *, seed: int = 0, views: int = 3, **world: float) -> tuple[Problem, Tensor]:
    """Return a problem with so many shots of each class, and the features of 40 other images."""
    there = World(len(counts), seed=seed, **world)
    return there.problem(counts, views=views), there.test_images(40)[0]


@st.composite
def problems(draw: st.DrawFn, *, min_shots: int = 0, equal: bool = False) -> tuple[Problem, Tensor]:
    """Draw problems of 2 to 6 classes with up to 4 shots, ragged unless `equal`, and features of 40 other images."""
    num_classes = draw(st.integers(2, 6))
    shots = st.integers(min_shots, 4)
    counts = [draw(shots)] * num_classes if equal else draw(st.lists(shots, min_size=num_classes, max_size=num_classes))
    return make_problem(counts, seed=draw(st.integers(0, 50)), views=draw(st.sampled_from([1, 3])))


def shuffled(problem: Problem, *, seed: int = 1) -> Problem:
    """Return the problem with its shots in another order."""
    order = torch.randperm(len(problem.support), generator=torch.Generator().manual_seed(seed))
    return problem.with_support(problem.support[order])


def repeated(problem: Problem, times: int) -> Problem:
    """Return the problem with every shot repeated several times."""
    return problem.with_support(problem.support[torch.arange(len(problem.support)).repeat(times)])


def renumbered(problem: Problem, permutation: Tensor) -> Problem:
    """Return the problem with class `permutation[i]` as the new class i."""
    names = problem.label_space
    labels = permutation.argsort()[problem.support.labels]
    order = permutation.tolist()
    return replace(
        problem,
        label_space=LabelSpace(
            *(tuple(part[label] for label in order) for part in (names.names, names.prompt_names, names.descriptions))
        ),
        class_embeddings=problem.class_embeddings[permutation],
        support=replace(problem.support, labels=labels),
    )
