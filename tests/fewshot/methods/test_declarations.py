"""Declarations read from source equal those of the class, and reading them loads no torch."""

from __future__ import annotations

import math
import subprocess
import sys
import types
from dataclasses import dataclass, field

import pytest

from fewshot.errors import DataError, UnknownNameError
from fewshot.methods import DIFFUSION_SCORERS, METHODS, MethodInfo, build_diffusion_scorer, build_method
from fewshot.methods.declarations import (
    Hyperparameter,
    UnreadableError,
    hyperparameters_of,
    read_class,
    read_source,
)
from fewshot.methods.table import TABLE

each_method = pytest.mark.parametrize("info", TABLE, ids=lambda info: info.name)
LISTING = """
import sys, time
from fewshot.methods import METHODS, DIFFUSION_SCORERS, hyperparameters_of
print(sum(len(hyperparameters_of(name)) for name in METHODS | DIFFUSION_SCORERS))
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pydantic", "ray", "pyarrow"}))
print(time.process_time())
"""


@each_method
def test_the_source_declares_what_the_class_has(info):
    assert read_source(info) == read_class(info.load()) == hyperparameters_of(info.name)


@each_method
def test_every_hyperparameter_is_documented(info):
    for each in hyperparameters_of(info.name):
        assert each.summary.endswith(".")
        assert not each.summary.lower().startswith(("see", "likewise"))


@each_method
def test_every_choice_is_accepted_and_another_is_refused(info):
    build = build_method if info.name in METHODS else build_diffusion_scorer
    for each in hyperparameters_of(info.name):
        assert each.default is None or not each.choices or each.default in each.choices
        for choice in each.choices:
            assert getattr(build(info.name, **{each.name: choice}), each.name) == choice
        if each.choices:
            with pytest.raises(ValueError, match=f"unknown .*{each.name} 'another'"):
                build(info.name, **{each.name: "another"})


@each_method
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, 10**400, True])
def test_every_number_is_finite_and_no_other_type(info, value):
    build = build_method if info.name in METHODS else build_diffusion_scorer
    for each in hyperparameters_of(info.name):
        if each.type in ("float", "integer"):
            with pytest.raises(DataError, match=each.name):
                build(info.name, **{each.name: value})


@each_method
def test_every_count_has_a_limit_that_the_error_names(info):
    build = build_method if info.name in METHODS else build_diffusion_scorer
    for each in hyperparameters_of(info.name):
        if each.type == "integer":
            with pytest.raises(DataError, match=rf"{each.name} must be an integer from \d+ to [\d,]+, got {10**7}"):
                build(info.name, **{each.name: 10**7})
            with pytest.raises(DataError, match=rf"{each.name} must be an integer from"):
                build(info.name, **{each.name: -1})


def test_limits_are_those_of_iterations_and_of_layers():
    assert build_method("ape_t", epochs=1_000_000, max_steps=1_000_000).epochs == 1_000_000
    assert build_diffusion_scorer("tif", rank=1024).rank == 1024
    with pytest.raises(DataError, match=r"tif\.rank must be an integer from 1 to 1,024, got 1025"):
        build_diffusion_scorer("tif", rank=1025)


def test_types_are_those_of_a_job_file():
    listed = {each.name: each for name in ("ape", "tip_adapter_f", "auto", "tif") for each in hyperparameters_of(name)}
    assert listed["alpha"] == Hyperparameter("alpha", "float", (), None, listed["alpha"].summary)
    assert (listed["epochs"].type, listed["epochs"].default) == ("integer", None)
    assert (listed["max_steps"].type, listed["max_steps"].default) == ("integer", 4000)
    assert (listed["class_mean"].type, listed["class_mean"].default) == ("boolean", False)
    assert (listed["template"].type, listed["template"].choices) == ("string", ())
    assert listed["blocks"].choices == ("none", "all-1", "all-2")
    assert (listed["candidates"].type, listed["candidates"].default[0]) == ("array", "gda")


def test_an_unknown_method_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'tip_x'"):
        hyperparameters_of("tip_y")


def test_listing_everything_loads_no_torch_and_is_fast():
    done = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    count, heavy, seconds = done.stdout.split("\n")[:3]
    assert int(count) == sum(len(read_class(info.load())) for info in TABLE)
    assert heavy == ""
    assert float(seconds) < 0.4


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """A method from elsewhere, with computed defaults.

    Attributes:
        strength: of something,
            in [0, 1].
        steps, learning_rate: see `fewshot.methods.clip_adapter.ClipAdapter`.
        epochs: see `fewshot.methods`.
    """

    strength: float | None = min(0.5, 1.0)
    words: tuple[str, ...] = field(default_factory=tuple)
    steps: int = 3
    learning_rate: float = 0.1
    epochs: int = 2


def test_a_class_that_cannot_be_read_is_imported(monkeypatch):
    module = types.ModuleType("stranger")
    monkeypatch.setattr(module, "Stranger", Stranger, raising=False)
    monkeypatch.setitem(sys.modules, "stranger", module)
    info = MethodInfo(name="stranger", target="stranger:Stranger", family="adapter", summary="", paper=None)
    monkeypatch.setitem(METHODS, "stranger", info)
    with pytest.raises(UnreadableError):
        read_source(info)
    adapter = {each.name: each.summary for each in hyperparameters_of("clip_adapter")}
    assert hyperparameters_of("stranger") == (
        Hyperparameter("strength", "float", (), 0.5, "of something, in [0, 1]."),
        Hyperparameter("words", "array", (), (), ""),
        Hyperparameter("steps", "integer", (), 3, adapter["steps"]),
        Hyperparameter("learning_rate", "float", (), 0.1, adapter["learning_rate"]),
        Hyperparameter("epochs", "integer", (), 2, "see `fewshot.methods`."),
    )


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("torch:Tensor", "no source in fewshot"),
        ("fewshot.nowhere:Nothing", "no source in fewshot"),
        ("fewshot.methods.ape:Nothing", "does not define Nothing"),
        ("fewshot.methods.ape.method:GAMMAS", "no class"),
        ("fewshot.problem:Problem", "no default"),
        ("fewshot.optimization.training_cache:InMemoryCache", ""),
    ],
)
def test_other_source_is_refused_rather_than_guessed(target, reason):
    info = MethodInfo(name="x", target=target, family="adapter", summary="", paper=None)
    if reason:
        with pytest.raises(UnreadableError, match=reason):
            read_source(info)
    else:
        assert read_source(info) == ()


def test_names_of_classifiers_and_scorers_do_not_collide():
    assert not METHODS.keys() & DIFFUSION_SCORERS.keys()
