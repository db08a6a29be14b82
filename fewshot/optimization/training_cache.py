"""What was trained already, found by what determines it.

Training is the expensive part of a method, and the same training is asked for again and again: to choose a
hyperparameter on a fold, to calibrate on that fold, by a method that builds on another's features, by `auto`, after a
crash. So a method never trains by itself: it asks a memo, with a key that covers all that the result depends on. A
memo may keep things for the life of a process (`InMemoryCache`), in shared storage, or not at all (`no_cache`).
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
"""What a training gives: tensors by name."""


class TrainingCache(Protocol):
    """Finds what was trained before."""

    def __call__(self, key: str, make: Callable[[], State]) -> State:
        """What `make` gives, made at most once for a key.

        Args:
            key: from `training_key`.
            make: trains.
        """
        ...


def no_cache(key: str, make: Callable[[], State]) -> State:
    """The memo that keeps nothing."""
    del key
    return make()


class InMemoryCache:
    """The memo that lasts as long as the object."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def __call__(self, key: str, make: Callable[[], State]) -> State:
        """See `TrainingCache`."""
        if key not in self._states:
            self._states[key] = make()
        return self._states[key]


def training_key(name: str, problem: Problem, *, seed: int, **settings: Any) -> str:
    """The name under which a training is kept. The order of the shots plays no part.

    Args:
        name: of the training, e.g. "safe"; methods that share a training share its name.
        problem: what is learned from. The backbone counts only through the features and the prompt prototypes: a memo
            that outlives a process keeps backbones apart.
        seed: of the training.
        settings: every other value that changes the result; JSON values.

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
