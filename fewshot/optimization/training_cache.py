"""A cache of trained parameters, keyed by everything that affects them.

Training is the expensive part of a method, and the same training is needed several times: to choose a hyperparameter on
a fold, to calibrate on that fold, for a method that builds on the features of another, for `auto`, and after a crash.
So a method never trains directly but through a training cache, with a key that covers everything that affects the
result. A cache may keep its entries in the memory of a process (`InMemoryCache`), in shared storage, or not at all
(`no_cache`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from fewshot.optimization.content_order import content_digests
from fewshot.problem import Problem

State = Mapping[str, Tensor]
"""The result of a training: tensors by name."""


class TrainingCache(Protocol):
    """A function that returns the stored result of a training, or trains and stores it."""

    def __call__(self, key: str, make: Callable[[], State]) -> State:
        """Return the result of `make`, called at most once for a key.

        Args:
            key: see `training_key`.
            make: runs the training.
        """
        ...


def no_cache(key: str, make: Callable[[], State]) -> State:
    """Train without a cache."""
    del key
    return make()


class InMemoryCache:
    """A training cache in memory, for the life of the object."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def __call__(self, key: str, make: Callable[[], State]) -> State:
        """See `TrainingCache`."""
        if key not in self._states:
            self._states[key] = make()
        return self._states[key]


def training_key(name: str, problem: Problem, *, seed: int, **settings: Any) -> str:
    """Return the key of a training; it does not depend on the order of the shots.

    Args:
        name: of the training, e.g. "safe"; methods that share a training share its name.
        problem: the problem to train on. The backbone enters only through features and text embeddings: a cache that
            outlives a process must separate backbones.
        seed: of the training.
        settings: every other value that affects the result; JSON values.

    Returns:
        `name`, a dash, 32 hexadecimal digits.
    """
    shots = sorted(zip(content_digests(problem.support), problem.support.labels.tolist(), strict=True))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([name, seed, settings, problem.logit_scale], sort_keys=True).encode())
    digest.update(json.dumps([problem.label_space.names, problem.label_space.prompt_names]).encode())
    digest.update(problem.class_embeddings.detach().cpu().contiguous().numpy().tobytes())
    for content, label in shots:
        digest.update(content + label.to_bytes(8, "little"))
    return f"{name}-{digest.hexdigest()}"
