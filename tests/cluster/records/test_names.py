import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.records.names import is_sidecar, printable

NAMES = st.text(st.characters(codec=None), max_size=12)


@given(name=NAMES, other=NAMES)
@example("a\n", "a\\n")
@example("\udcff", "\\udcff")
def test_printable_names_are_one_line_of_unicode_and_never_shared(name, other):
    assert len(printable(name).splitlines()) <= 1
    printable(name).encode()
    assert (printable(name) == printable(other)) == (name == other)


@pytest.mark.parametrize("name", ["a b.jpg", "Straße 東京.png", "👩‍🔬.webp", "Screenshot 9.41\u202fAM.png"])
def test_ordinary_names_stay_as_they_are(name):
    assert printable(name) == name


@pytest.mark.parametrize(("name", "expected"), [("a/b.TXT", True), ("LICENSE", True), ("a.jpg", False), ("a", False)])
def test_sidecars_are_recognised_by_name(name, expected):
    assert is_sidecar(name) is expected
