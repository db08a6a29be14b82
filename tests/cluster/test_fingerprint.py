from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import fingerprint

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@dataclass(frozen=True)
class Ape:
    alpha: float = 1.0


@dataclass(frozen=True)
class Tip:
    alpha: float = 1.0


@given(value=values)
def test_a_fingerprint_is_sixteen_hex_characters(value: Any) -> None:
    name = fingerprint(value)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")


@given(value=st.dictionaries(st.text(), values, min_size=2))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(value=st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_a_list_matters(value: list[int]) -> None:
    assert fingerprint(value) != fingerprint(value[::-1])


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0, None), ("1", 1), ([], {}), ("ab", ["ab"]), (Ape(), Tip()), (0.0, -0.0)]
)
def test_different_values_have_different_fingerprints(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_tuples_equal_lists_and_paths_their_text() -> None:
    assert fingerprint((1, (2, 3))) == fingerprint([1, [2, 3]])
    assert fingerprint(Path("a/b")) == fingerprint("a/b")


def test_a_dataclass_is_hashed_with_its_fields() -> None:
    assert fingerprint({"method": Ape(2.0)}) == fingerprint({"method": Ape(2.0)}) != fingerprint({"method": Ape(3.0)})


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", np.zeros(2), np.float32(1), {1: "a"}, Ape, object()])
def test_unsupported_values_are_refused_with_their_path(value: Any) -> None:
    with pytest.raises(TypeError, match=r"value\.config\[0\]"):
        fingerprint({"config": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        fingerprint([value])


def test_another_process_computes_the_same_fingerprint() -> None:
    program = "from cluster.fingerprint import fingerprint; print(fingerprint({'b': 0.1, 'a': ['é', None]}))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == fingerprint({"a": ["é", None], "b": 0.1})
