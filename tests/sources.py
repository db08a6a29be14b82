"""The project's own Python files as syntax trees, for the tests that read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "fewshot", "ray_jobs")


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Dotted name and syntax tree of every module of the packages."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield module_name(path.relative_to(ROOT)), ast.parse(path.read_bytes(), filename=str(path))


def module_name(path: Path) -> str:
    """ "fewshot/data/__init__.py" is "fewshot.data.__init__": its relative imports start where a module's would."""
    return ".".join(path.with_suffix("").parts)


def imports(module: str, tree: ast.AST) -> set[str]:
    """Absolute dotted names that a module imports anywhere: on top, in functions, for types, by `import_module`.

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
    """Whether a dotted name is the package or something in it."""
    return name == package or name.startswith(f"{package}.")
