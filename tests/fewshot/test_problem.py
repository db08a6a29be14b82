"""What is no problem is refused when it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewshot.errors import DataError
from tests.problems import make_problem


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_another_precision_are_refused(dtype):
    problem, _ = make_problem([2, 2], dim=4)
    other = replace(problem.support, views=problem.support.views.to(dtype))
    with pytest.raises(DataError, match=rf"must be float32, got {dtype} and torch.float32: use .float\(\)"):
        problem.with_support(other)
