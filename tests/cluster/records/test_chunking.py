from hypothesis import given
from hypothesis import strategies as st

from cluster.records.chunking import chunk

KEYS = [f"image_{number:05d}.jpg" for number in range(4000)]


def groups_of(keys, target):
    return list(chunk(keys, key=str, target=target))


@given(count=st.integers(0, 600), target=st.integers(1, 64))
def test_groups_hold_every_item_once_and_have_about_the_target_size(count, target):
    groups = groups_of(KEYS[:count], target)
    assert [key for group in groups for key in group] == KEYS[:count]
    assert all(max(1, target // 2) <= len(group) <= 2 * target for group in groups[:-1])
    assert all(groups)


@given(position=st.integers(0, len(KEYS)))
def test_a_new_item_changes_its_neighbourhood_only(position):
    before = groups_of(KEYS, 32)
    after = groups_of([*KEYS[:position], f"new_{position}", *KEYS[position:]], 32)
    same = {tuple(group) for group in before} & {tuple(group) for group in after}
    assert len(before) - len(same) <= 12


def test_the_average_is_near_the_target():
    assert 0.7 < len(KEYS) / len(groups_of(KEYS, 32)) / 32 < 1.3


def test_items_are_not_read_ahead():
    pulled = []
    groups = chunk((pulled.append(key) or key for key in KEYS), key=str, target=8)
    next(groups)
    assert len(pulled) <= 16
