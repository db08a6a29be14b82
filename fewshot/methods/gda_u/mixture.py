"""The Gaussian classes of a few-shot problem beside its text, with a component for images of no class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fewshot.gaussian_classes import ClassStatistics, Plane, discriminant, shrunk, within_class_covariance
from fewshot.methods.gda.functional import distinct, with_means_from_text
from fewshot.methods.gda.method import Gda, with_text
from fewshot.methods.gda_u.functional import Anchors
from fewshot.problem import Problem
from fewshot.prototypes import LinearClassifier


@dataclass(frozen=True, slots=True)
class Mixture:
    """What GDA learns from the examples of a problem, and the scores of its classes for any means.

    Attributes:
        problem: with at least one example.
        anchors: the class means of the examples.
        has_images: [K] bool, the classes with examples.
        covariance: [D, D] float64, of all classes.
        background: [1, D] float64, mean of the component for images of no class.
        text_share: share of the text beside the images, in [0, 1].
        temperature: divides the logits, > 0.
    """

    problem: Problem
    anchors: Anchors
    has_images: Tensor
    covariance: Tensor
    background: Tensor
    text_share: float
    temperature: float

    @classmethod
    def from_problem(cls, problem: Problem, gda: Gda, sample: Tensor, *, temperature: float) -> Self:
        """Learn from the examples; the background has the mean of the sample [M, D]. `gda` has its text share."""
        shots = distinct(problem.support)
        statistics = ClassStatistics.from_views(shots.views, shots.labels, num_classes=problem.num_classes)
        has_images = statistics.images > 0
        means = with_means_from_text(statistics.means, has_images, problem.class_embeddings.double())
        covariance, count = within_class_covariance(statistics, images=gda.n_effective == "images")
        return cls(
            problem,
            Anchors(means, statistics.images.clamp(min=1).double()),
            has_images,
            shrunk(covariance, count, shrinkage=gda.shrinkage),
            sample.double().mean(dim=0, keepdim=True),
            gda.text_share or 0.0,
            temperature,
        )

    def scores(self, means: Tensor) -> Plane:
        """Return the logits of the classes with means [K, D] and, last, of the background, divided by the temperature.

        The text of the background is the mean of all texts.
        """
        has_images = torch.cat([self.has_images, torch.zeros(1, dtype=torch.bool)])
        plane = discriminant(torch.cat([means, self.background]), has_images, self.covariance)
        text = self.problem.class_embeddings.double()
        texts = torch.cat([text, text.mean(dim=0, keepdim=True)])
        sharpness, share = self.problem.logit_scale / self.temperature, self.text_share
        return Plane(sharpness * ((1.0 - share) * plane.weight + share * texts), sharpness * (1.0 - share) * plane.bias)

    def classifier(self, means: Tensor, offsets: Tensor | None = None) -> LinearClassifier:
        """Return the classifier of GDA with other means.

        Args:
            means: [K, D] float64.
            offsets: [K] float64, added to the logits that are divided by the temperature; None adds nothing.
        """
        found = with_text(discriminant(means, self.has_images, self.covariance), self.problem, self.text_share)
        if offsets is None:
            return found
        return LinearClassifier(found.weight, (found.bias.double() + self.temperature * offsets).float())
