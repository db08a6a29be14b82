"""How much code there is: modules a folder, lines of files and functions, uses of an annotation."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from tools.source_trees import Sources, is_init, nodes, parse


def modules_by_folder(sources: Sources) -> dict[str, int]:
    """Count the modules directly in each folder, `__init__` not counted."""
    folders = Counter({str(PurePosixPath(path).parent): 0 for path in sources})
    folders.update(str(PurePosixPath(path).parent) for path in sources if not is_init(path))
    return dict(sorted(folders.items()))


def code_lines(sources: Sources) -> dict[str, int]:
    """Count the lines of each file that are neither blank nor comment nor docstring."""
    return {path: _code_lines(path, source) for path, source in sources.items()}


def function_lines(sources: Sources) -> dict[str, int]:
    """Count the lines of each function and method without its docstring, by "path:line name"."""
    return {
        f"{path}:{node.lineno} {node.name}": len(_lines([node])) - len(_lines(_bare_strings([node])))
        for path, source in sources.items()
        for node in nodes(path, source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def annotation_counts(sources: Sources, annotation: str) -> dict[str, int]:
    """Count the uses of an annotation in each package.

    An alias (`Row = dict[str, Any]`) counts once, and once more wherever it is used by that name.

    Args:
        sources: the tree.
        annotation: with its parameters, such as "dict[str, Any]".
    """
    counts = Counter({path.split("/")[0]: 0 for path in sources})
    every_alias = {name for path, source in sources.items() for name in _aliases(parse(path, source), annotation)}
    for path, source in sources.items():
        tree, every = parse(path, source), nodes(path, source)
        aliases = every_alias & {*_aliases(tree, annotation), *_imported_names(every)}
        counts[path.split("/")[0]] += sum(_is_use(node, annotation, aliases) for node in every)
    return dict(sorted(counts.items()))


def _code_lines(path: str, source: str) -> int:
    every = nodes(path, source)
    docstrings = _lines(_bare_strings(every))
    strings = _lines(node for node in every if isinstance(node, ast.Constant | ast.JoinedStr))
    return sum(
        bool(line.strip()) and number not in docstrings and (number in strings or not line.lstrip().startswith("#"))
        for number, line in enumerate(source.split("\n"), start=1)
    )


def _bare_strings(every: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """The docstrings in the bodies of nodes: of these themselves, and of their constants or fields."""
    for node in every:
        for statement in getattr(node, "body", ()) if isinstance(node, ast.Module | ast.stmt) else ():
            match statement:
                case ast.Expr(ast.Constant(str()) as string):
                    yield string


def _lines(spans: Iterable[ast.stmt | ast.expr]) -> set[int]:
    return {number for node in spans for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _aliases(tree: ast.Module, annotation: str) -> Iterator[str]:
    """Names that a module gives to the annotation."""
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, value) if _is_spelled(
                value, annotation
            ):
                yield name


def _imported_names(every: Iterable[ast.AST]) -> set[str]:
    return {alias.name for node in every if isinstance(node, ast.ImportFrom) for alias in node.names}


def _is_use(node: ast.AST, annotation: str, aliases: set[str]) -> bool:
    match node:
        case ast.Subscript():
            return _is_spelled(node, annotation)
        case ast.Name(name, ast.Load()):
            return name in aliases
    return False


def _is_spelled(node: ast.expr | None, annotation: str) -> bool:
    """Whether an expression is the annotation, with or without `typing.` before its names."""
    match node:
        case ast.Subscript(ast.Name(name) | ast.Attribute(attr=name)) if annotation.startswith(f"{name}["):
            return ast.unparse(node).replace("typing.", "") == annotation
    return False
