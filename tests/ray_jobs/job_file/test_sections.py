"""Values that follow from several keys of a job file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from fewshot.methods import METHODS
from fewshot.methods.table import VIEWS
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.job_file.sections import ClassifierSection, EvaluateSection, Job, JobSection, SupportSection

TRAINED_ON_VIEWS = {name for name, info in METHODS.items() if info.views}


def job(method="nearest_mean", views=None, **hyperparameters):
    return Job(
        job=JobSection(name="a", output="out"),
        support=SupportSection(uri="examples", views=views),
        classifier=ClassifierSection(method=method, hyperparameters=hyperparameters),
    )


def test_examples_are_embedded_once_by_default():
    assert job().views == 0
    assert replace(job(), support=None).views == 0
    assert job("no_such_method").views == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_given_number_of_views_replaces_that_of_the_method(method):
    assert job(method).views == (VIEWS if method in TRAINED_ON_VIEWS else 0)
    assert [job(method, views=given).views for given in (0, 3)] == [0, 3]


def test_the_candidates_of_auto_decide():
    assert job("auto").views == VIEWS
    assert job("auto", candidates=("nearest_mean", "linear_probe")).views == 0
    assert job("auto", candidates=("nearest_mean", "clip_adapter")).views == VIEWS


def test_the_documentation_names_every_method_with_views():
    text = SupportSection.__doc__
    assert text is not None
    for name in TRAINED_ON_VIEWS:
        assert ("ship_..." if name.startswith("ship_") else name) in text


@pytest.mark.parametrize(
    ("methods", "views", "expected"),
    [
        (("zero_shot", "nearest_mean"), None, 0),
        (("nearest_mean", "tip_adapter_f"), None, VIEWS),
        (("nearest_mean", "tip_adapter_f"), 2, 2),
    ],
)
def test_an_evaluation_embeds_what_one_of_its_methods_gains_from(methods, views, expected):
    section = EvaluateSection(splits="splits.json", methods=methods)
    assert Evaluation(job(views=views), section, None, None, "").views == expected


def test_a_data_set_without_its_recipe_is_refused():
    for recipe in ("published", "default"):
        section = partial(EvaluateSection, splits="splits.json", recipe=recipe)
        assert section().data_set is None
    with pytest.raises(ValueError, match="data_set = 'dtd' has no effect with our settings"):
        section(data_set="dtd")
