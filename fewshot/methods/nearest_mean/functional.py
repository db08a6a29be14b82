"""Nearest class mean (Snell et al. 2017, arXiv 1703.05175, with cosines) as functions of tensors.

    P_k = norm(norm(sum of the keys of k) + w W_k)        logits = s X P^T

The text W_k joins the mean with a weight w. A class without examples has only its text, and w = 0 is the plain nearest
class mean. It is the simplest thing that learns from examples, and what every other method should be compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor

from fewshot.key_value_cache.kernel import Cache
from fewshot.model_selection.cross_validation import Split
from fewshot.prototypes import prototypes, text_logits


def sweep(split: Split, points: Collection[float]) -> Iterator[tuple[float, Tensor]]:
    """Logits of a split's queries at each text weight."""
    problem, queries = split.problem, split.queries.features
    cache = Cache.from_problem(problem)
    for weight in points:
        means = prototypes(cache.keys, cache.counts, problem.class_embeddings, text_weight=weight)
        yield weight, text_logits(queries, means, logit_scale=problem.logit_scale)
