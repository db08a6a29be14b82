"""Syntax trees of the project's own Python files, for tests of the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "fewshot", "ray_jobs")


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the dotted name and the syntax tree of every module of the packages."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield module_name(path.relative_to(ROOT)), ast.parse(path.read_bytes(), filename=str(path))


def module_name(path: Path) -> str:
    """Return the dotted name; that of an `__init__` ends with it, so that its relative imports resolve."""
    return ".".join(path.with_suffix("").parts)


def imports(module: str, tree: ast.AST) -> set[str]:
    """Return the absolute dotted names of all imports of a module, also in functions, for types, by `import_module`.

    `from a import b` counts as `a.b`, which may be a module.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(origin, names, level):
                above = module.split(".")[:-level] if level else []
                found |= {".".join([*above, *filter(None, [origin]), alias.name]) for alias in names}
            case ast.Call(
                ast.Attribute(attr="import_module") | ast.Name("import_module" | "__import__"),
                [ast.Constant(str(name)), *_],
            ):
                found.add(name)
    return found


def is_within(name: str, package: str) -> bool:
    """Return whether a dotted name is the package or a member of it."""
    return name == package or name.startswith(f"{package}.")
