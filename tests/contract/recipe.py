"""The method of CONTRIBUTING.md, as a reader would copy it: module, entry in the table, test."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from fewshot.methods import MethodInfo
from tests.sources import ROOT


@cache
def recipe_blocks() -> tuple[str, str, str]:
    """The Python of "Add a method": its module, its entry, its test."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, section = text.partition("\n## Add a method\n")
    module, entry, test = re.findall(r"^```python\n(.*?)^```", section.partition("\n## ")[0], re.M | re.S)
    return module, entry, test


@cache
def recipe_entry() -> MethodInfo:
    """Evaluate the entry, which is the last expression of its block."""
    *before, last = ast.parse(recipe_blocks()[1]).body
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {}
    exec(compile(ast.Module(before, []), "CONTRIBUTING.md", "exec"), names)
    info = eval(compile(ast.Expression(last.value), "CONTRIBUTING.md", "eval"), names)
    assert isinstance(info, MethodInfo)
    return info


def recipe_modules(patch: pytest.MonkeyPatch) -> None:
    """Let the module of the recipe be imported from where the entry says that it is."""
    name = recipe_entry().target.partition(":")[0]
    module = ModuleType(name)
    patch.setitem(sys.modules, name, module)
    exec(compile(recipe_blocks()[0], "CONTRIBUTING.md", "exec"), module.__dict__)
