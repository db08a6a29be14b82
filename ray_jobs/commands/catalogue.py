"""What there is to choose from: methods and backbones. Listing methods imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fewshot.errors import UnknownNameError
from fewshot.methods import DIFFUSION_SCORERS, METHODS, MethodInfo, hyperparameters_of


def list_methods() -> dict[str, Any]:
    """List the methods for `classifier.method`, and those for `escalate.method`.

    Returns:
        `methods` and `escalate`: by name the family, a summary, the needs beyond features, and the source.
    """
    return {"methods": _entries(METHODS), "escalate": _entries(DIFFUSION_SCORERS)}


def describe_method(name: str) -> dict[str, Any]:
    """Describe one method.

    Args:
        name: of the method.

    Returns:
        the entry of `list_methods`, the `name`, the `key` of the job file that takes it, and of each hyperparameter the
        name, type, choices, default and a summary. A default of None is chosen by cross-validation on the examples, or,
        for [escalate], by the size of the diffusion model.

    Raises:
        UnknownNameError: there is no such method.
    """
    table = METHODS | DIFFUSION_SCORERS
    if name not in table:
        raise UnknownNameError("method", name, table)
    key = "classifier.method" if name in METHODS else "escalate.method"
    hyperparameters = [asdict(each) for each in hyperparameters_of(name)]
    return {"name": name, "key": key, **_entry(table[name]), "hyperparameters": hyperparameters}


def _entries(methods: Mapping[str, MethodInfo]) -> dict[str, Any]:
    return {name: _entry(info) for name, info in methods.items()}


def _entry(info: MethodInfo) -> dict[str, Any]:
    source = info.paper and {"title": info.paper.title, "year": info.paper.year, "url": info.paper.url}
    return {"family": info.family, "summary": info.summary, "needs": sorted(info.needs), "source": source}


def list_models(containing: str = "") -> dict[str, Any]:
    """List the backbones for `clip.model`, each with its `pretrained` tags.

    Args:
        containing: part of the names to list, in any case.
    """
    import open_clip

    from fewshot.backbones.clip_spec import EMBEDDED

    names = [EMBEDDED, *open_clip.list_models()]
    tags = {name: open_clip.list_pretrained_tags_by_model(name) if name != EMBEDDED else [] for name in names}
    return {"models": {name: tags[name] for name in names if containing.lower() in name.lower()}}
