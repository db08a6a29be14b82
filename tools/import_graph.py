"""The imports between the files of a tree, and the circles among them.

An edge leads from a file to the file that *defines* what it imports, wherever the import stands: at the top, in a
function, under `TYPE_CHECKING`, or as `import_module("a.b")`. `from package import name` leads to the module
`package.name` if there is one, and otherwise through `package/__init__.py` to the module from which that re-exports the
name. So an `__init__` that only re-exports is a door, not a room: nothing is defined in it, no edge ends there, and it
is in no circle, although Python runs it on the way. An `__init__` that defines something is a room like any other file:
whoever imports *that* depends on all that it imports.

A package that is imported as a whole (`import package`, `from folder import package`) leads to the definers of the
attributes that are used of it, and to its `__init__` where none is. Names that a module computes at run time, such as
`import_module(table[name])`, are no edges: that is how a table of names without a dependency is written.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tools.source_trees import Sources, is_init, nodes

Graph = dict[str, dict[str, int]]
"""Of each file, the files that it imports from, with the line of the first such import."""


@dataclass(frozen=True, slots=True)
class ImportLine:
    """One import: `importer` imports from `imported` in `line`. Both are paths."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        """Return "a.py:3 imports b.py"."""
        return f"{self.importer}:{self.line} imports {self.imported}"


@dataclass(frozen=True, slots=True)
class Circle:
    """Files that all depend on each other.

    Attributes:
        files: paths, sorted; two or more.
        example: one of the shortest circles among them, starting at its first path.
    """

    files: tuple[str, ...]
    example: tuple[ImportLine, ...]


def import_circles(sources: Sources) -> list[Circle]:
    """Find every strongly connected component of more than one file.

    Args:
        sources: the tree.

    Returns:
        The circles, sorted by their first file; none shares a file with another.
    """
    graph = import_graph(sources)
    components = (sorted(files) for files in strongly_connected(graph) if len(files) > 1)
    return [Circle(tuple(files), _shortest_circle(graph, files)) for files in sorted(components)]


def import_graph(sources: Sources) -> Graph:
    """Return the edges between the files of a tree; see the module's docstring for what is one."""
    tree = _Tree(sources)
    graph: Graph = {path: {} for path in sorted(sources)}
    for path, edges in graph.items():
        for line, target in sorted(_edges(path, nodes(path, sources[path]), tree)):
            if target != path:
                edges.setdefault(target, line)
    return graph


def strongly_connected(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected components of a graph (Tarjan's algorithm), single nodes included."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for target in graph[node]:
            if target not in order:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], order[target])
        if lowest[node] == order[node]:
            start = stack.index(node)
            components.append(stack[start:])
            del stack[start:]

    for node in graph:
        if node not in order:
            visit(node)
    return components


def _shortest_circle(graph: Graph, files: Iterable[str]) -> tuple[ImportLine, ...]:
    inside = set(files)
    paths = min((_way_back(graph, inside, start) for start in sorted(inside)), key=len)
    return tuple(ImportLine(a, graph[a][b], b) for a, b in zip(paths, [*paths[1:], paths[0]], strict=True))


def _way_back(graph: Graph, inside: set[str], start: str) -> list[str]:
    """The nodes of a shortest circle through a node of a strongly connected set, beginning with the node."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while True:
        node = queue.popleft()
        for target in sorted(inside & graph[node].keys()):
            if target == start:
                return _path(came_from, start, node)
            if target not in came_from:
                came_from[target] = node
                queue.append(target)


def _path(came_from: Mapping[str, str], start: str, end: str) -> list[str]:
    nodes = [end]
    while nodes[-1] != start:
        nodes.append(came_from[nodes[-1]])
    return nodes[::-1]


class _Tree:
    """The modules of a tree, and which of them defines a name."""

    def __init__(self, sources: Sources) -> None:
        self.paths = {_dotted(path): path for path in sources}
        self.reexports = {
            name: _bound_names(path, nodes(path, sources[path])) for name, path in self.paths.items() if is_init(path)
        }

    def is_package(self, name: str) -> bool:
        return name in self.reexports

    def definer(self, name: str, seen: frozenset[str] = frozenset()) -> str | None:
        """The path of the module `name`, or of the module that defines it; None for what is not of this tree."""
        module, attribute = name, ""
        while module and module not in self.paths:
            module, _, attribute = module.rpartition(".")
        if not module:
            return None
        origin = self.reexports.get(module, {}).get(attribute)
        if origin is None or origin in seen:
            return self.paths[module]
        return self.definer(origin, seen | {origin}) or self.paths[module]


def _edges(path: str, every: tuple[ast.AST, ...], tree: _Tree) -> Iterator[tuple[int, str]]:
    """Line and path of each file that a file imports from."""
    for line, bound, name in _imports(path, every):
        targets = _used_of(bound, name, every) if tree.is_package(name) else [name]
        yield from ((line, definer) for target in targets if (definer := tree.definer(target)))


def _used_of(bound: str, package: str, every: tuple[ast.AST, ...]) -> list[str]:
    """Absolute names of what a file uses of a package that it calls `bound`; the package itself if nothing."""
    chains = (chain for chain in _attribute_chains(every) if chain.startswith(f"{bound}."))
    return [package + chain.removeprefix(bound) for chain in chains] or [package]


def _imports(path: str, every: tuple[ast.AST, ...]) -> Iterator[tuple[int, str, str]]:
    """Line, the name in this file (dotted for `import a.b`), and the absolute dotted name of everything imported."""
    for node in every:
        match node:
            case ast.Import(names):
                yield from ((node.lineno, alias.asname or alias.name, alias.name) for alias in names)
            case ast.ImportFrom(origin, names, level):
                above = path.removesuffix(".py").split("/")[:-level] if level else []
                for alias in names:
                    name = ".".join([*above, *filter(None, [origin]), alias.name])
                    yield node.lineno, alias.asname or alias.name, name
            case ast.Call(
                ast.Attribute(attr="import_module") | ast.Name("import_module" | "__import__"),
                [ast.Constant(str(name)), *_],
            ):
                yield node.lineno, name, name


def _bound_names(path: str, every: tuple[ast.AST, ...]) -> dict[str, str]:
    return {bound: name for _, bound, name in _imports(path, every)}


def _attribute_chains(every: tuple[ast.AST, ...]) -> list[str]:
    """Every `a.b.c` of names only, each at its full length."""
    attributes = [node for node in every if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}
    return [chain for node in attributes if id(node) not in inner and (chain := _chain(node))]


def _chain(node: ast.expr) -> str | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
