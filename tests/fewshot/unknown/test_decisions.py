"""The test at a rate, and the file of its examples."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewshot.digests import PLACEHOLDER, seal
from fewshot.errors import DataError
from fewshot.problem import Labelled
from fewshot.unknown import NearestExample, UnknownTest, load_examples, save_examples
from tests.fewshot.unknown.test_nearest_example import draw, examples_of


def labelled(rows):
    return Labelled(rows[:, None], torch.zeros(len(rows), dtype=torch.int64))


@given(N=st.integers(0, 40), rate=st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.29, 0.5]), seed=st.integers(0, 9))
def test_unknown_are_the_p_values_of_at_most_the_rate(N, rate, seed):
    rows = draw(N + 6, seed=seed)
    examples = examples_of(rows[6:])
    tested = UnknownTest(examples, rate)(rows[:6])
    assert torch.equal(tested.p_values, examples.ranks(rows[:6]).double() / (N + 1))
    assert torch.equal(tested.unknown, tested.p_values <= rate)
    assert torch.equal(tested.unknown, examples.unknown(rows[:6], lost=rate))


def test_a_file_gives_the_same_test_back():
    rows = draw(70)
    examples = load_examples(save_examples(labelled(rows[:40])), file="a")
    assert torch.equal(examples.features, examples_of(rows[:40]).features)
    assert torch.equal(examples.scores, examples_of(rows[:40]).scores)


def test_equal_examples_give_equal_files_in_any_order():
    rows = draw(40)
    views = torch.stack([rows, rows.roll(1, 0)], dim=1)
    data = save_examples(labelled(rows))
    assert save_examples(labelled(rows.flip(0))) == data
    assert save_examples(Labelled(views, torch.arange(40) % 3)) == data


def changed(**tensors):
    import safetensors.torch

    examples = NearestExample.from_rows(draw(5))
    given = {"features": draw(5), "scores": examples.scores} | tensors
    present = {name: tensor for name, tensor in given.items() if tensor is not None}
    return seal(safetensors.torch.save(present, {"digest": PLACEHOLDER}))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no digest"),
        (save_examples(labelled(draw(5)))[:-1], "does not match its digest"),
        (changed(scores=None), "scores"),
        (changed(features=draw(4)), "expected features"),
        (changed(features=draw(5).double()), "expected features"),
        (changed(features=draw(5).log()), "finite features"),
        (changed(scores=torch.arange(5.0, 0.0, -1.0, dtype=torch.float64)), "ascending"),
        (changed(scores=torch.full((5,), torch.nan, dtype=torch.float64)), "ascending"),
        (changed(features=draw(1), scores=torch.tensor([torch.nan], dtype=torch.float64)), "ascending"),
    ],
)
def test_a_damaged_file_is_refused(data, reason):
    with pytest.raises(DataError, match=f"known is damaged.*{reason}"):
        load_examples(data, file="known")


def test_no_images_have_no_results_whatever_their_shape():
    tested = UnknownTest(examples_of(draw(20)), 0.05)(torch.zeros(0, 1))
    assert tested.p_values.shape == tested.unknown.shape == (0,)


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_a_test_at_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        UnknownTest(examples_of(draw(20)), rate)
