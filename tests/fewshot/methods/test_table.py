from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest

from fewshot import methods
from fewshot.errors import DataError, UnknownNameError
from fewshot.methods import DIFFUSION_SCORERS, METHODS, build_diffusion_scorer, build_method
from fewshot.methods.table import TABLE
from fewshot.methods.tip_adapter import TipAdapter


def test_the_table_is_sorted_and_names_every_method_once():
    names = [info.name for info in TABLE]
    assert names == sorted(set(names))
    assert {*METHODS, *DIFFUSION_SCORERS} == set(names)


@pytest.mark.parametrize("info", TABLE, ids=lambda info: info.name)
def test_an_entry_agrees_with_its_class(info):
    assert info.load().name == info.name
    assert (info.name in DIFFUSION_SCORERS) == info.scores_images == hasattr(info.load(), "prompts")
    assert info.summary
    assert not info.summary.endswith(".")
    if info.paper is not None:
        assert info.paper.url.startswith(("https://arxiv.org/abs/", "https://doi.org/"))
        number = info.paper.identifier.removeprefix("arXiv:")
        assert info.paper.year == 2000 + int(number[:2])


def test_the_table_lists_every_folder_of_a_method():
    folders = {path.parent.name for path in Path(methods.__file__).parent.glob("*/__init__.py")}
    assert {info.target.partition(":")[0].rpartition(".")[2] for info in TABLE} == folders


def test_a_method_is_made_from_its_name_and_values():
    assert build_method("tip_adapter", alpha=2, beta=5.5) == TipAdapter(alpha=2, beta=5.5)


def test_an_unknown_method_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"unknown method 'tip_adaptor'\. Did you mean 'tip_adapter'"):
        build_method("tip_adaptor")


def test_an_unknown_hyperparameter_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"unknown hyperparameter of tip_adapter 'alfa'.*Known: alpha, beta"):
        build_method("tip_adapter", alfa=1.0)


def test_a_method_without_hyperparameters_says_so():
    with pytest.raises(DataError, match="zero_shot has no hyperparameters, got 'alpha'"):
        build_method("zero_shot", alpha=1.0)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "2", True])
def test_a_value_out_of_range_is_refused(value):
    with pytest.raises(DataError, match=r"tip_adapter.alpha must be a number in \[0, 1e\+30\]"):
        build_method("tip_adapter", alpha=value)


@pytest.mark.parametrize(
    ("method", "name", "value", "kind"),
    [
        ("clip_adapter", "steps", 1e3, "an integer"),
        ("tip_adapter_f", "max_steps", True, "an integer"),
        ("clip_adapter", "second_relu", "no", "true or false"),
        ("coop", "class_specific", 0, "true or false"),
        ("coop", "words", 5, "a string"),
        ("ape", "criterion_source", 3, "a string"),
        ("ship_coop", "synthetic_shots", 2.5, "an integer"),
        ("auto", "candidates", "safe", "a list of strings"),
        ("auto", "candidates", [1], "a list of strings"),
    ],
)
def test_a_value_of_another_kind_is_refused(method, name, value, kind):
    with pytest.raises(DataError, match=rf"{method}\.{name} must be {kind}, got"):
        build_method(method, **{name: value})


@pytest.mark.parametrize("value", ["no", [], 0.5, True, -1, float("nan")])
@pytest.mark.parametrize("name", sorted(METHODS | DIFFUSION_SCORERS))
def test_a_given_value_is_kept_as_it_is_or_refused(name, value):
    make = build_method if name in METHODS else build_diffusion_scorer
    for field in fields((METHODS | DIFFUSION_SCORERS)[name].load()):
        with suppress(DataError):
            assert getattr(make(name, **{field.name: value}), field.name) is value


def test_every_default_is_of_its_own_kind():
    for table, made in ((METHODS, build_method), (DIFFUSION_SCORERS, build_diffusion_scorer)):
        for method, info in table.items():
            kind = info.load()
            values = {field.name: getattr(kind(), field.name) for field in fields(kind)}
            assert made(method, **values) == kind()
