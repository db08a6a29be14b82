"""Private words in a tree: terms that only this project used, each with the standard term that replaces it.

Identifiers are split at underscores and at the humps of camel case, and words are matched whole, in the singular or the
plural: `LessonPlan` has the word "lesson", `holdings` has "holding", `household` has neither. "Ground truth" is a
standard term.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from tools.source_trees import Sources, nodes, parse

GLOSSARY = {
    "acquit": "clear",
    "acquitted": "cleared",
    "answer": "noise error (of a UNet), response (of a server)",
    "ask": "score",
    "asked": "scored",
    "asking": "scoring",
    "commands": "command_needs",
    "contest": "round state",
    "convict": "blame",
    "convicted": "blamed",
    "courses": "adapter trainings",
    "doubtful": "escalation candidate",
    "exam": "calibration set",
    "foresight": "plan",
    "forget": "no_cache",
    "held": "acquire_run",
    "holding": "run lease",
    "left_out": "unreadable_examples",
    "lesson": "adapter training",
    "loudness": "alpha",
    "memo": "training cache",
    "nesting": "limits",
    "nobody": 'a name for the state, such as "stopped"',
    "of": "from_job, from_problem, ... (say from what)",
    "opinion": "prediction",
    "places": "paths",
    "pupil": "class adapter",
    "question": "query",
    "rehearsal": "pretraining",
    "rehearse": "pretrain_fold",
    "sharing": "gpu_share",
    "sharpness": "beta",
    "spending": "cost model",
    "strength": "alpha and beta grids",
    "strict": "field_types",
    "tellable": "redacted",
    "telling": "sanitize",
    "ticket": "InFlightUnit",
    "told": "message, redacted, summary",
    "truth": "ground_truth",
    "verdict": "escalated prediction",
    "who_holds": "lease_owner",
}
"""Word, or words joined by an underscore, to the standard term."""

Kind = Literal["folder", "module", "class", "function", "method", "parameter", "field", "constant", "text"]

WHOLE_NAMES: dict[str, frozenset[Kind]] = {
    "commands": frozenset({"module"}),
    "held": frozenset({"module", "function", "method"}),
    "of": frozenset({"function", "method"}),
    "strict": frozenset({"folder", "module"}),
}
"""Words that are private only as the whole name of something of these kinds, and plain English elsewhere."""
ONLY_NAMES = frozenset({"holding", "nesting", "places", "sharing"})
"""Words that are private in names, and plain English in prose."""


class PublicName(NamedTuple):
    """A name that others see.

    Attributes:
        path: the file, or the folder for a folder.
        line: in the file, from 1; 0 for a folder.
        kind: what it names.
        name: as written.
    """

    path: str
    line: int
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class PrivateWord:
    """A private word, where it stands, and what to write instead.

    Attributes:
        path: the file, or the folder for the name of a folder.
        line: in the file, from 1; 0 for a folder.
        kind: what is named with it, or "text" for docstrings and other strings.
        name: the name, or the identifier or word of a text, as written.
        word: a key of `GLOSSARY`.
        standard: the term to write instead.
    """

    path: str
    line: int
    kind: Kind
    name: str
    word: str
    standard: str


def words_in_names(sources: Sources) -> list[PrivateWord]:
    """Find private words in the names of folders, modules, classes, functions, methods, parameters, fields, constants.

    Args:
        sources: the tree.

    Returns:
        What was found, by path and line. What begins with an underscore, or is inside of such a thing, is not public.
    """
    return [
        PrivateWord(*public, word, GLOSSARY[word])
        for public in sorted(public_names(sources))
        for word in private_words(public.name, public.kind)
    ]


def words_in_text(sources: Sources) -> list[PrivateWord]:
    """Find private words in docstrings and all other strings; see `words_in_names`."""
    return [
        PrivateWord(path, line, "text", name, word, GLOSSARY[word])
        for path, source in sorted(sources.items())
        for line, name in sorted(_string_words(nodes(path, source)))
        for word in private_words(name, "text")
    ]


def private_words(name: str, kind: Kind) -> list[str]:
    """Return the keys of `GLOSSARY` that are private in a name of this kind, in order.

    >>> private_words("memo_of_lessons", "parameter")
    ['memo', 'lesson']
    """
    if name.lower() in WHOLE_NAMES:
        return [name.lower()] if kind in WHOLE_NAMES[name.lower()] else []
    words = split_words(_without_ground_truth(name))
    found = [key for word in [*words, *map("_".join, pairwise(words))] if (key := _key(word))]
    return [key for key in found if key not in WHOLE_NAMES and not (kind == "text" and key in ONLY_NAMES)]


def split_words(identifier: str) -> list[str]:
    """Split at underscores, digits and camel case: "HTTPServer_v2" is "http", "server", "v"."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def public_names(sources: Sources) -> Iterator[PublicName]:
    """Yield every public name of a tree, in no order; see `words_in_names`."""
    folders = {folder for path in sources for folder in PurePosixPath(path).parents if folder.name}
    yield from (PublicName(str(folder), 0, "folder", folder.name) for folder in folders)
    for path, source in sources.items():
        stem = PurePosixPath(path).stem
        if not (_is_public(stem) or _is_dunder(stem)):
            continue
        yield PublicName(path, 1, "module", stem)
        for node in parse(path, source).body:
            for line, kind, name in _defined(node):
                yield PublicName(path, line, kind, name)


def _defined(node: ast.stmt, *, in_class: bool = False) -> Iterator[tuple[int, Kind, str]]:
    match node:
        case ast.ClassDef(name=name) if _is_public(name):
            yield node.lineno, "class", name
            for statement in node.body:
                yield from _defined(statement, in_class=True)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if _is_public(name) or _is_dunder(name):
            yield node.lineno, "method" if in_class else "function", name
            yield from ((argument.lineno, "parameter", argument.arg) for argument in _arguments(node.args))
        case ast.Assign() | ast.AnnAssign():
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in _assigned(target):
                    yield node.lineno, "field" if in_class else "constant", name
        case ast.If() | ast.Try():
            for statement in [*node.body, *node.orelse]:
                yield from _defined(statement, in_class=in_class)


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return (argument for argument in every if argument and _is_public(argument.arg))


def _assigned(target: ast.expr) -> Iterator[str]:
    stored = (n for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return (node.id for node in stored if _is_public(node.id))


def _string_words(every: tuple[ast.AST, ...]) -> Iterator[tuple[int, str]]:
    """Line and text of each word of a string, identifiers whole."""
    for node in every:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = _without_ground_truth(node.value)
            for number, line in enumerate(text.split("\n")):
                yield from ((node.lineno + number, word) for word in re.findall(r"\w+", line))


def _without_ground_truth(text: str) -> str:
    return re.sub(r"(?i)ground([\s_-]*)truths?", r"ground\1", text)


def _key(word: str) -> str | None:
    return next((key for key in (word, word.removesuffix("s")) if key in GLOSSARY), None)


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
