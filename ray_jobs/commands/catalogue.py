"""What there is to choose from: methods and backbones. Listing methods imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fewshot.errors import UnknownNameError
from fewshot.methods import DIFFUSION_SCORERS, METHODS, Hyperparameter, MethodInfo, hyperparameters_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The paper of a method: title, year of its first version, and the URL of its page."""

    title: str
    year: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """A method in the list.

    Attributes:
        family: of methods that learn in the same way.
        summary: one line.
        needs: what it needs beside features, sorted.
        source: where it was published; None for a method of this project.
    """

    family: str
    summary: str
    needs: tuple[str, ...]
    source: Publication | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodList:
    """The methods by name: those for `classifier.method`, and those for `escalate.method`."""

    methods: Mapping[str, MethodEntry]
    escalate: Mapping[str, MethodEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodDescription:
    """A method with its hyperparameters.

    Attributes:
        name: of the method.
        key: of the job file that takes it.
        family, summary, needs, source: see `MethodEntry`.
        hyperparameters: a default of None is chosen by cross-validation on the examples, or, for [escalate], by the
            size of the diffusion model.
    """

    name: str
    key: str
    family: str
    summary: str
    needs: tuple[str, ...]
    source: Publication | None
    hyperparameters: tuple[Hyperparameter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """The backbones for `clip.model`, each with its `pretrained` tags."""

    models: Mapping[str, tuple[str, ...]]


def list_methods() -> MethodList:
    """List the methods for `classifier.method`, and those for `escalate.method`."""
    return MethodList(methods=_entries(METHODS), escalate=_entries(DIFFUSION_SCORERS))


def describe_method(name: str) -> MethodDescription:
    """Describe one method.

    Args:
        name: of the method.

    Raises:
        UnknownNameError: there is no such method.
    """
    table = METHODS | DIFFUSION_SCORERS
    if name not in table:
        raise UnknownNameError("method", name, table)
    entry = _entry(table[name])
    return MethodDescription(
        name=name,
        key="classifier.method" if name in METHODS else "escalate.method",
        family=entry.family,
        summary=entry.summary,
        needs=entry.needs,
        source=entry.source,
        hyperparameters=hyperparameters_of(name),
    )


def _entries(methods: Mapping[str, MethodInfo]) -> dict[str, MethodEntry]:
    return {name: _entry(info) for name, info in methods.items()}


def _entry(info: MethodInfo) -> MethodEntry:
    paper = info.paper
    source = None if paper is None else Publication(title=paper.title, year=paper.year, url=paper.url)
    return MethodEntry(family=info.family, summary=info.summary, needs=tuple(sorted(info.needs)), source=source)


def list_models(containing: str = "") -> ModelList:
    """List the backbones for `clip.model`, each with its `pretrained` tags.

    Args:
        containing: part of the names to list, in any case.

    Raises:
        UnknownNameError: it is part of no name.
    """
    from fewshot.backbones.clip_spec import EMBEDDED, open_clip_models

    known = (EMBEDDED, *open_clip_models())
    names = [name for name in known if containing.lower() in name.lower()]
    if not names:
        raise UnknownNameError("backbone", containing, known)
    import open_clip

    tags = {name: () if name == EMBEDDED else tuple(open_clip.list_pretrained_tags_by_model(name)) for name in names}
    return ModelList(models=tags)
