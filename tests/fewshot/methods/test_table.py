import pytest

from fewshot.errors import DataError, UnknownNameError
from fewshot.methods import method_named
from fewshot.methods.tip_adapter import TipAdapter


def test_a_method_is_made_from_its_name_and_values():
    assert method_named("tip_adapter", alpha=2, beta=5.5) == TipAdapter(alpha=2, beta=5.5)


def test_an_unknown_method_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"unknown method 'tip_adaptor'\. Did you mean 'tip_adapter'"):
        method_named("tip_adaptor")


def test_an_unknown_hyperparameter_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"unknown hyperparameter of tip_adapter 'alfa'.*Known: alpha, beta"):
        method_named("tip_adapter", alfa=1.0)


def test_a_method_without_hyperparameters_says_so():
    with pytest.raises(DataError, match="zero_shot has no hyperparameters, got 'alpha'"):
        method_named("zero_shot", alpha=1.0)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "2", True])
def test_a_value_out_of_range_is_refused(value):
    with pytest.raises(DataError, match=r"tip_adapter.alpha must be a number in \[0, inf\)"):
        method_named("tip_adapter", alpha=value)
