"""The examples of a classifier, kept for label sets: from their features to the file beside its card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import Store
from ray_jobs.output.classifiers import ClassifierRef
from ray_jobs.output.label_set_examples import examples_path, put_examples
from ray_jobs.steps.train import Training, read_labelled

if TYPE_CHECKING:
    from fewshot.problem import Labelled


def keep_examples(store: Store, classifier: ClassifierRef, training: Training) -> None:
    """Store the different examples beside their classifier, unless they are there; their features must be there.

    Args:
        store: the output.
        classifier: the classifier.
        training: what it was trained from.

    Raises:
        JobError: examples could not be read.
        DamagedError: features are damaged, and were removed.
    """
    if store.exists(examples_path(classifier.folder)):
        return
    from fewshot.backbones import load_backbone
    from fewshot.conformal import ConformalExamples
    from fewshot.problem import Problem

    backbone, space = load_backbone(training.spec), training.support.labels.space
    text = backbone.prototypes(space, training.templates)
    _, shots = read_labelled(store, training.support.find(store), skip_unreadable=training.skip_unreadable)
    problem = Problem(space, text, _each_once(shots), None, backbone.logit_scale)
    put_examples(store, classifier.folder, ConformalExamples.from_problem(problem), space.names)


def _each_once(shots: Labelled) -> Labelled:
    """Leave out copies: an example with its copy beside it is closer to its class than any image of the archive."""
    import torch

    first: dict[bytes, int] = {}
    for number, row in enumerate(shots.views[:, 0].numpy()):
        first.setdefault(row.tobytes(), number)
    return shots[torch.tensor(list(first.values()), dtype=torch.int64)]
