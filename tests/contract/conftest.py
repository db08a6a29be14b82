"""Which methods the contract is run on: those of the table and the recipe of CONTRIBUTING.md, or one that is named.

pytest tests/contract --method my_package.my_module:MyMethod --needs text_tower
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import get_args

import pytest

from fewshot.methods import METHODS, MethodInfo
from fewshot.methods.table import Need
from tests.contract.recipe import recipe_entry, recipe_modules

NAMED = pytest.StashKey[MethodInfo]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the contract of methods")
    group.addoption(
        "--method",
        metavar="MODULE:CLASS",
        help="run the contract on this method alone, which need not be in the table; or a name in the table",
    )
    group.addoption(
        "--needs",
        action="append",
        default=[],
        choices=get_args(Need),
        help="what the method of --method needs beside features; repeatable",
    )


def pytest_configure(config: pytest.Config) -> None:
    if (named := config.getoption("method", None)) is not None:
        config.stash[NAMED] = named_method(named, config.getoption("needs"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        named = metafunc.config.stash.get(NAMED, None)
        infos = [*METHODS.values(), recipe_entry()] if named is None else [named]
        metafunc.parametrize("name", infos, ids=[info.name for info in infos], indirect=True, scope="module")


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a method that is in the table for as long as its tests run."""
    info: MethodInfo = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, info.name, info)
        if info == recipe_entry():
            recipe_modules(patch)
        yield info.name


def named_method(named: str, needs: list[Need]) -> MethodInfo:
    """Return the entry of a method as the command line names it.

    Raises:
        pytest.UsageError: there is no such class, or it has no name.
    """
    if named in METHODS:
        return METHODS[named]
    module, _, kind = named.partition(":")
    try:
        loaded = getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(
            f"--method: expected MODULE:CLASS, such as my_package.my_module:MyMethod, or one of {', '.join(METHODS)}; "
            f"got {named!r} ({error})"
        ) from error
    if not isinstance(getattr(loaded, "name", None), str):
        raise pytest.UsageError(f"--method: {named} has no class attribute `name`")
    return MethodInfo(name=loaded.name, target=named, family="adapter", summary="", paper=None, needs=frozenset(needs))
