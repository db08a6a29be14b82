"""A digest finds every bit that changed, wherever the digest stands, and stands in the way of no other program."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.digests import KEY, PLACEHOLDER, DigestError, check_digest, check_json, check_seal, digest, seal, seal_json
from fewshot.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(before=st.binary(max_size=20), after=st.binary(max_size=20), data=st.data())
def test_every_flipped_bit_of_sealed_bytes_is_found(before, after, data):
    sealed = seal(before + PLACEHOLDER.encode() + after)
    check_seal(sealed)
    assert len(sealed) == len(before) + len(PLACEHOLDER) + len(after)
    with pytest.raises(DigestError):
        check_seal(flipped(sealed, data.draw(st.integers(0, 8 * len(sealed) - 1))))


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"", bytes.upper])
def test_bytes_of_another_length_or_without_a_digest_are_damaged(change):
    with pytest.raises(DigestError, match="digest"):
        check_seal(change(seal(b"content " + PLACEHOLDER.encode())))


def test_texts_that_look_like_a_digest_are_content():
    sealed = seal(f"{PLACEHOLDER} {digest(b'x')} {PLACEHOLDER}.".encode())
    assert sealed.startswith(f"{PLACEHOLDER} {digest(b'x')} ".encode())
    check_seal(sealed)


@pytest.mark.parametrize("data", [b"", b"nothing", f"{PLACEHOLDER} blake2b:".encode(), digest(b"x").encode()])
def test_without_a_placeholder_at_the_end_nothing_is_sealed(data):
    with pytest.raises(ValueError, match="no placeholder"):
        seal(data)


@given(content=st.dictionaries(st.text(), values, max_size=4))
def test_sealed_json_may_be_formatted_anew(content):
    content.pop(KEY, None)
    sealed = seal_json(content)
    assert list(sealed)[-1] == KEY
    for text in (json.dumps(sealed), json.dumps(sealed, indent=4, sort_keys=True, ensure_ascii=False)):
        assert check_json(json.loads(text)) == content
    assert seal_json(sealed) == sealed


@given(content=st.dictionaries(st.text(max_size=3), values, max_size=3), data=st.data())
def test_a_flipped_bit_of_sealed_json_is_found_or_changes_no_value(content, data):
    content.pop(KEY, None)
    text = json.dumps(seal_json(content)).encode()
    try:
        changed = json.loads(flipped(text, data.draw(st.integers(0, 8 * len(text) - 1))))
        found = check_json(changed)
    except ValueError:
        return
    assert found == content


def test_json_without_a_digest_or_with_nan_is_damaged():
    with pytest.raises(DigestError, match="no digest"):
        check_json({"a": 1})
    with pytest.raises(DigestError, match="a number that JSON does not have"):
        check_json({"a": float("nan"), KEY: ""})


@pytest.mark.parametrize("empty", ["", None, 0, False, []])
def test_an_empty_digest_is_no_digest_of_anything(empty):
    with pytest.raises(DigestError, match="does not match"):
        check_json({"a": 1, KEY: empty})


def test_bytes_are_compared_with_a_digest_elsewhere():
    check_digest(b"content", digest(b"content"))
    for expected in (digest(b"other"), None, 3):
        with pytest.raises(DataError, match="does not match"):
            check_digest(b"content", expected)
