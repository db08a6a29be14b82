"""The recipe of CONTRIBUTING.md and `--method`. The whole contract runs on the recipe in `test_methods.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot.methods import METHODS, build_method, hyperparameters_of, needs_of
from tests.contract.conftest import named_method
from tests.contract.recipe import recipe_blocks, recipe_entry, recipe_modules
from tests.sources import ROOT

SORTED_SUM = "segment_sum(cache.keys, cache.counts)"
SUM_AS_LISTED = "zeros_like(problem.class_embeddings).index_add_(0, problem.support.labels, problem.support.cache_keys)"


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setitem(METHODS, recipe_entry().name, recipe_entry())
    recipe_modules(monkeypatch)
    return recipe_entry()


def test_the_recipe_is_new_and_leaves_the_table_as_it_was(recipe, monkeypatch):
    assert build_method("plain_mean", text_weight=2.0).text_weight == 2.0
    assert [each.name for each in hyperparameters_of("plain_mean")] == ["text_weight"]
    assert needs_of("plain_mean", {}) == frozenset()
    monkeypatch.undo()
    assert recipe.name not in METHODS


def test_its_own_test_passes(recipe):
    names: dict = {}
    exec(compile(recipe_blocks()[2], "CONTRIBUTING.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_its_files_are_where_the_methods_are(recipe):
    folder = recipe.target.partition(":")[0].rpartition(".")[2]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    like = "nearest_mean"
    for file in ("fewshot/methods/{}/method.py", "fewshot/methods/{}/__init__.py", "tests/fewshot/methods/test_{}.py"):
        assert f"`{file.format(folder)}`" in text
        assert (ROOT / file.format(like)).exists()


@pytest.mark.parametrize("named", ["nonsense", "no.such.module:Method", "fewshot.methods.ape:Nothing", ":", ""])
def test_a_method_that_cannot_be_imported_is_refused_with_an_example(named):
    with pytest.raises(pytest.UsageError, match=r"expected MODULE:CLASS, such as my_package\.my_module:MyMethod"):
        named_method(named, [])


def test_a_class_without_a_name_is_refused():
    with pytest.raises(pytest.UsageError, match="has no class attribute `name`"):
        named_method("fewshot.problem:Problem", [])


def test_a_method_is_named_by_its_class_or_by_its_name_in_the_table():
    assert named_method("ape", []) is METHODS["ape"]
    info = named_method("fewshot.methods.coop.method:Coop", ["text_tower"])
    assert (info.name, info.load(), info.needs) == ("coop", METHODS["coop"].load(), {"text_tower"})


def contract_of(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the contract on a method that lies in a folder."""
    command = [sys.executable, "-m", "pytest", "tests/contract/test_methods.py", "-k", tests, "-rA", *options]
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "CI": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_strangers_careless_copy_breaks_the_contract_where_it_is_careless(tmp_path):
    module = recipe_blocks()[0].replace("plain_mean", "careless")
    assert SORTED_SUM in module
    copy = module.replace(SORTED_SUM, SUM_AS_LISTED).replace("import Tensor", "import Tensor, zeros_like", 1)
    (tmp_path / "stranger.py").write_text(copy)
    done = contract_of(tmp_path, "order_of_the_shots or same_seed", "--method", "stranger:PlainMean")
    assert done.returncode == 1, done.stdout
    contract = "tests/contract/test_methods.py"
    assert f"FAILED {contract}::test_the_order_of_the_shots_changes_no_bit[careless]" in done.stdout
    assert f"PASSED {contract}::test_the_same_seed_gives_the_same_classifier[careless]" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
