"""The hyperparameters that a method declares, read from its source: listing them imports no method and no torch.

A method's dataclass is the only place where they are declared: fields, annotations, defaults, and an `Attributes:`
section. Importing all methods for that takes more than a second of torch. The alternatives were a second, torch-free
class for each method, a file more to write and to follow, with shared defaults moved out of the trainings they belong
to; and a generated list, a second copy to keep. So the syntax tree is read instead, as documentation tools do. What
that understands is small on purpose: literals, unions, names that lead to those through assignments and `from` imports
of this package, and class attributes (`Recipe.epochs`). For a class that declares more than that, or lies outside this
package, the class is imported and looked at: slower, and the same. A test holds both readings of every method equal.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import pydoc
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fewshot.errors import UnknownNameError
from fewshot.methods.table import DIFFUSION_SCORERS, METHODS, MethodInfo

PACKAGE = __name__.partition(".")[0]
ROOT = Path(__file__).parents[__name__.count(".")]
BUILT_IN = {
    "bool": bool,
    "float": float,
    "int": int,
    "str": str,
    "tuple": tuple,
    "Literal": Literal,
    "Mapping": Mapping,
}
TOML_TYPES = {
    bool: "boolean",
    float: "float",
    int: "integer",
    str: "string",
    Literal: "string",
    tuple: "array",
    Mapping: "table",
}
ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")
REFERENCE = re.compile(r"[Ss]ee `(fewshot(?:\.\w+)+)`")

Default = bool | int | float | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A field of a method.

    Attributes:
        name: in job files.
        type: what a job file gives, in TOML's words: "boolean", "integer", "float", "string", "array" (of strings) or
            "table" (of numbers by name).
        choices: the strings that it may be; empty where any will do.
        default: None is chosen inside the shots, or, of a diffusion scorer, by the size of the model.
        summary: what it is, as documented; empty where it is not.
    """

    name: str
    type: str
    choices: tuple[str, ...]
    default: Default
    summary: str


class UnreadableError(Exception):
    """Source that is more than declarations; the class has to be imported."""


def hyperparameters_of(name: str) -> tuple[Hyperparameter, ...]:
    """Return the hyperparameters of a method or a diffusion scorer, in the order of its fields.

    Raises:
        UnknownNameError: there is no method of that name.
    """
    table = METHODS | DIFFUSION_SCORERS
    if name not in table:
        raise UnknownNameError("method", name, table)
    try:
        return read_source(table[name])
    except UnreadableError:
        return read_class(table[name].load())


def read_source(info: MethodInfo) -> tuple[Hyperparameter, ...]:
    """Read the hyperparameters from the source, importing nothing.

    Raises:
        UnreadableError: the source is not there, or declares what this does not understand.
    """
    module, _, name = info.target.partition(":")
    fields, documented = _source_fields(module, name)
    return tuple(_described(*field, documented) for field in fields.values())


def read_class(kind: type[Any]) -> tuple[Hyperparameter, ...]:
    """Read the hyperparameters from the class itself."""
    documented: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        documented |= _attributes(each.__doc__ and inspect.cleandoc(each.__doc__), _docstring_of)
    hints = get_type_hints(kind)
    return tuple(_described(f.name, hints[f.name], _default(f), documented) for f in dataclasses.fields(kind))


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _described(name: str, hint: Any, default: Any, documented: Mapping[str, str]) -> Hyperparameter:
    kinds = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    kind = get_origin(kinds[0]) or kinds[0]
    choices = get_args(kinds[0]) if kind is Literal else ()
    return Hyperparameter(name, TOML_TYPES.get(kind, str(kind)), choices, default, documented.get(name, ""))


def _attributes(docstring: str | None, docstring_of: Callable[[str], str | None]) -> dict[str, str]:
    """Return the entries of a docstring's `Attributes:` by name; "see `a.Class`" is what that class says of it."""
    _, _, section = (docstring or "").partition("\nAttributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if entry := ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif not line.startswith(" " * 8):
            break
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    for name, text in found.items():
        if reference := REFERENCE.match(text):
            found[name] = _attributes(docstring_of(reference[1]), docstring_of).get(name, text)
    return found


def _docstring_of(path: str) -> str | None:
    kind = pydoc.locate(path)
    return inspect.getdoc(kind) if isinstance(kind, type) else None


# Everything below reads source.


def _source_fields(module: str, name: str) -> tuple[dict[str, tuple[str, Any, Any]], dict[str, str]]:
    """Return the fields of a class (name, hint, default), those of its bases first, and what documents them."""
    module, node = _definition(module, name)
    if not isinstance(node, ast.ClassDef):
        raise UnreadableError(f"{module}.{name} is no class")
    fields: dict[str, tuple[str, Any, Any]] = {}
    documented: dict[str, str] = {}
    for base in reversed(node.bases):
        inherited, known = _source_fields(module, ast.unparse(base))
        fields |= inherited
        documented |= known
    for statement in node.body:
        match statement:
            case ast.AnnAssign(ast.Name(field), annotation, default) if not _is_class_variable(annotation):
                if default is None:
                    raise UnreadableError(f"{name}.{field} has no default")
                fields[field] = (field, _value(module, annotation), _value(module, default))
    return fields, documented | _attributes(ast.get_docstring(node), _source_docstring)


def _is_class_variable(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).startswith("ClassVar")


def _source_docstring(path: str) -> str | None:
    module, _, name = path.rpartition(".")
    try:
        _, node = _definition(module, name)
    except UnreadableError:
        return None  # A module, for one.
    return ast.get_docstring(node) if isinstance(node, ast.ClassDef) else None


def _value(module: str, node: ast.expr | None) -> Any:
    """Return the value of an annotation or a default."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Tuple(items):
            return tuple(_value(module, item) for item in items)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(module, operand)
        case ast.BinOp(left, ast.BitOr(), right):
            return _value(module, left) | _value(module, right)
        case ast.Subscript(kind, items):
            return _value(module, kind)[_value(module, items)]
        case ast.Name(name) if name in BUILT_IN:
            return BUILT_IN[name]
        case ast.Name(name):
            return _assigned(*_definition(module, name))
        case ast.Attribute(ast.Name(name), attribute):
            return _class_attribute(*_definition(module, name), attribute)
    raise UnreadableError(f"{module}: {node and ast.unparse(node)}")


def _assigned(module: str, node: ast.stmt) -> Any:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return _value(module, node.value)
    raise UnreadableError(f"{module}: {ast.unparse(node)}")


def _class_attribute(module: str, node: ast.stmt, attribute: str) -> Any:
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        match statement:
            case ast.AnnAssign(ast.Name(name), _, value) if name == attribute:
                return _value(module, value)
    raise UnreadableError(f"{module}: {attribute}")


def _definition(module: str, name: str) -> tuple[str, ast.stmt]:
    """Return where a name of a module is defined, its imports followed, and its definition."""
    for node in reversed(_source(module).body):
        match node:
            case ast.ClassDef(defined) | ast.Assign([ast.Name(defined)]) | ast.AnnAssign(ast.Name(defined)):
                if defined == name:
                    return module, node
            case ast.ImportFrom(str(origin), aliases, 0):
                for alias in aliases:
                    if name == (alias.asname or alias.name):
                        return _definition(origin, alias.name)
    raise UnreadableError(f"{module} does not define {name}")


@cache
def _source(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if module.split(".")[0] == PACKAGE and file.is_file():
            return ast.parse(file.read_bytes())
    raise UnreadableError(f"{module} has no source in {PACKAGE}")
