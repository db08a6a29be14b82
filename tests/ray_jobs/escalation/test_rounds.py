"""Rounds of queries: cut into units that compute each once, with merged adapters where they pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_jobs.escalation import scoring_plan as scoring_plan_module
from ray_jobs.escalation.rounds import score_candidates
from ray_jobs.escalation.scoring_plan import (
    FORWARDS_PER_UNIT,
    FORWARDS_TO_MERGE,
    QUERIES_PER_UNIT,
    UNITS_PER_ROUND,
    ScoringPlan,
)
from ray_jobs.steps.diffusion_worker import ClassPrompt

STEPS = np.arange(5, 1000, 10)
BATCH = 16


def scoring_plan(*, images=6, classes=3, adapter="adapters/tif/x"):
    return ScoringPlan(
        parts=("latents/a", "latents/b"),
        part=np.arange(images) % 2,
        row=np.arange(images) // 2,
        candidates=np.tile(np.arange(classes), (images, 1)),
        class_prompts=tuple(ClassPrompt(f"class {k}", adapter) for k in range(classes)),
        steps=STEPS,
        seed=0,
        unet_scale=1.0,
        batch_size=BATCH,
    )


def all_queries(images, classes, entries):
    grids = np.meshgrid(np.arange(images), np.arange(classes), np.arange(entries), indexing="ij")
    return tuple(grid.ravel() for grid in grids)


@pytest.mark.parametrize("entries", [1, 4, 100])  # Of a round with few queries, parts share a unit.
def test_every_query_is_in_exactly_one_unit(entries):
    here = scoring_plan(images=40)
    image, column, entry = all_queries(40, 3, entries)
    seen = np.zeros(len(image), dtype=int)
    for unit, rows in here.query_units("noise-errors", image, column, entry):
        seen[rows] += 1
        payload = unit.payload
        assert 0 < len(rows) == unit.weight <= 2 * QUERIES_PER_UNIT
        places = [(part.path, row) for part in payload.latents for row in part.rows]
        assert len(set(places)) == len(places)
        of_image = [(here.parts[here.part[i]], here.row[i]) for i in image[rows]]
        assert [places[place] for place in payload.image] == of_image
        assert payload.step.tolist() == STEPS[entry[rows]].tolist()
        assert [payload.classes[k].prompt for k in payload.label] == [f"class {k}" for k in column[rows]]
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("entries", "adapter", "merged"),
    [
        (100, "adapters/tif/x", True),
        (FORWARDS_TO_MERGE * BATCH // 3 - 1, "adapters/tif/x", False),
        (8, "adapters/tif/x", False),
        (100, None, False),
    ],
)
def test_adapters_are_merged_for_classes_with_many_queries(entries, adapter, merged):
    units = list(scoring_plan(adapter=adapter).query_units("noise-errors", *all_queries(6, 3, entries)))
    assert {unit.payload.merged for unit, _ in units} == {merged}


def test_images_of_many_parts_share_forwards():
    images, classes, entries = 200, 2, 6
    here = replace(
        scoring_plan(images=images, classes=classes),
        parts=tuple(f"latents/{number}" for number in range(images)),
        part=np.arange(images),
        row=np.zeros(images, dtype=int),
    )
    units = list(here.query_units("noise-errors", *all_queries(images, classes, entries)))
    read = [part.path for unit, _ in units for part in unit.payload.latents]
    assert len(read) == len(set(read)) == images
    sizes = [len(rows) for _, rows in units]
    filled_up = sum(-(-size // BATCH) * BATCH for size in sizes)
    assert filled_up <= (1 + 1 / FORWARDS_PER_UNIT) * images * classes * entries
    assert len(sizes) > 8
    assert not any(unit.payload.merged for unit, _ in units)  # A part has few queries of a class.


def test_a_unit_has_at_most_twice_a_number_of_queries(monkeypatch):
    monkeypatch.setattr(scoring_plan_module, "QUERIES_PER_UNIT", 150)
    units = scoring_plan(images=40).query_units("noise-errors", *all_queries(40, 3, 100))
    assert max(len(rows) for _, rows in units) == 300


def test_units_with_merged_adapters_hold_few_classes():
    units = [unit.payload for unit, _ in scoring_plan(images=40).query_units("x", *all_queries(40, 3, 100))]
    assert all(unit.merged for unit in units)
    assert sum(len(unit.classes) for unit in units) <= len(units) + 2 * (3 - 1)  # Each of 2 parts has 3 classes.


def test_units_are_named_after_their_queries():
    here, queries = scoring_plan(), all_queries(6, 3, 4)
    names = [unit.path for unit, _ in here.query_units("noise-errors", *queries)]
    assert len(set(names)) == len(names)
    assert names == [unit.path for unit, _ in here.query_units("noise-errors", *queries)]
    fewer = [unit.path for unit, _ in here.query_units("noise-errors", *(part[1:] for part in queries))]
    assert set(fewer) != set(names)


@pytest.mark.parametrize("schedule", ["racing", "published", "exhaustive"])
def test_a_clear_winner_wins_and_a_missing_candidate_never_does(schedule):
    table = torch.rand(5, 4, 60, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.1
    winners = torch.tensor([2, 0, 1, 1, 0])
    table[torch.arange(5), winners] -= 0.05
    table[:, 3] = 0.0  # Would win, but is no candidate.
    present = torch.tensor([[True, True, True, False]] * 4 + [[True, False, False, False]])

    def score(_, image, column, entry):
        assert column.max() < 3
        return table[image, column, entry].numpy()

    scored = score_candidates(schedule, present, torch.ones(60, dtype=torch.float64), score, error_rate=0.05)
    assert scored.winner.tolist() == winners.tolist()
    assert scored.ranking[:, 0].tolist() == winners.tolist()
    assert (scored.margins[:4] > 0).all()
    assert scored.forwards <= 4 * 3 * 60
    assert not scored.scored[4].any()  # One candidate needs no query.


@pytest.mark.parametrize("schedule", ["racing", "published", "exhaustive"])
def test_the_weighted_sum_of_errors_decides(schedule):
    """The class that wins by the plain sum loses by the weighted one; steps without a weight are never scored."""
    n = 60
    weights = torch.cat([torch.zeros(20), torch.linspace(1.0, 0.1, 40)]).double()
    table = torch.rand(6, 3, n, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.5
    table[:, 0, 40:] -= 0.1
    table[:, 1, 20:40] -= 0.08  # Worth more than the difference of the first, as weights fall.
    table[:, 2, :20] = 0.0
    asked = torch.zeros(n, dtype=torch.bool)

    def score(_, image, column, entry):
        asked[entry] = True
        return table[image, column, entry].numpy()

    scored = score_candidates(schedule, torch.ones(6, 3, dtype=torch.bool), weights, score, error_rate=0.05)
    assert (table[:, :2].sum(dim=2).argmin(dim=1) == 0).all()
    assert (scored.winner == 1).all()
    assert not asked[:20].any()
    assert not scored.scored[..., :20].any()
    assert scored.forwards == int(scored.scored.sum()) <= 6 * 3 * 40
    if schedule == "exhaustive":
        sums = (table.double() * weights).sum(dim=2)
        torch.testing.assert_close(scored.means, sums / 40)
        expected = (sums - sums[:, 1:2]) / sums[:, 1:2]
        torch.testing.assert_close(scored.gaps, expected)
        assert (scored.ranking[:, 1] == sums.argsort(dim=1)[:, 1]).all()


def test_stages_before_the_first_weight_drop_no_class():
    """Nothing is compared in them, so that classes would be dropped by their numbers, and missing ones be kept."""
    weights = torch.zeros(8, dtype=torch.float64).index_fill(0, torch.tensor([5, 7]), 1.0)
    present = torch.tensor([[False, True, True, True, True]])
    table = torch.full((1, 5, 8), 0.5).index_fill(1, torch.tensor([4]), 0.1)
    scored = score_candidates("published", present, weights, lambda _, *at: table[at].numpy(), error_rate=0.05)
    assert scored.winner.tolist() == [4]


def test_equal_weights_change_no_bit():
    table = torch.rand(5, 4, 60, generator=torch.Generator().manual_seed(1)).float()
    present, ones = torch.ones(5, 4, dtype=torch.bool), torch.ones(60, dtype=torch.float64)
    scored = score_candidates("racing", present, ones, lambda _, *at: table[at].numpy(), error_rate=0.05)
    counts = scored.scored.sum(dim=2)
    assert torch.equal(scored.means, (table.double() * scored.scored).sum(dim=2) / counts)


MANY = 300


def many_classes(images=2000, candidates=5, *, parts=100, images_in_memory=8192, adapter=True):
    """A plan with more classes than a worker keeps; each image may be of a few of them."""
    drawn = np.random.default_rng(0).random((images, MANY)).argsort(axis=1)[:, :candidates]
    return ScoringPlan(
        parts=tuple(f"latents/{number}" for number in range(parts)),
        part=np.arange(images) * parts // images,
        row=np.arange(images) % (images // parts),
        candidates=drawn,
        class_prompts=tuple(ClassPrompt(f"class {k}", f"adapters/tif/{k}" if adapter else None) for k in range(MANY)),
        steps=STEPS,
        seed=0,
        unet_scale=1.0,
        batch_size=BATCH,
        images_in_memory=images_in_memory,
    )


@pytest.mark.parametrize("entries", [4, 12])
def test_units_of_many_classes_hold_few_each(entries):
    here = many_classes()
    image, column, entry = all_queries(2000, 5, entries)
    units = list(here.query_units("noise-errors", image, column, entry))
    seen = np.concatenate([rows for _, rows in units])
    assert sorted(seen) == list(range(len(image)))
    assert max(len(rows) for _, rows in units) <= 2 * QUERIES_PER_UNIT
    uses = [each.prompt for unit, _ in units for each in unit.payload.classes]
    assert len(uses) == len(set(uses)) == MANY  # Every class is read for one unit.


def test_a_unit_needs_the_adapters_of_its_classes_and_no_prompts():
    queries = all_queries(2000, 5, 4)
    for unit, _ in many_classes().query_units("noise-errors", *queries):
        assert unit.needs == tuple(each.adapter for each in unit.payload.classes)
    assert not any(unit.needs for unit, _ in many_classes(adapter=False).query_units("noise-errors", *queries))


@pytest.mark.parametrize("order", [np.arange(2000), np.random.default_rng(1).permutation(2000)])
def test_latents_of_many_classes_are_needed_block_by_block(order):
    here = many_classes(images_in_memory=500)
    here = replace(here, part=here.part[order], row=here.row[order])
    units = [unit.payload for unit, _ in here.query_units("noise-errors", *all_queries(2000, 5, 4))]
    blocks = [{int(part.path.rpartition("/")[2]) // 25 for part in unit.latents} for unit in units]
    assert sum(len(each) > 1 for each in blocks) <= 3  # The last classes of a block share a unit with the next ones.
    assert [min(each) for each in blocks] == sorted(min(each) for each in blocks)
    assert {block for each in blocks for block in each} == {0, 1, 2, 3}


@pytest.mark.parametrize(("adapter", "in_memory"), [(False, MANY - 1), (True, MANY)])
def test_classes_that_a_worker_keeps_are_cut_by_images(monkeypatch, adapter, in_memory):
    """Those without adapters take hardly any memory."""
    monkeypatch.setattr(scoring_plan_module, "CLASSES_IN_MEMORY", in_memory)
    units = list(many_classes(adapter=adapter).query_units("noise-errors", *all_queries(2000, 5, 4)))
    parts = [part.path for unit, _ in units for part in unit.payload.latents]
    assert len(parts) == len(set(parts)) == 100


@pytest.mark.parametrize(("entries", "merged"), [(1, False), (4, True)])
def test_many_classes_are_merged_where_each_has_many_queries(entries, merged):
    units = list(many_classes().query_units("noise-errors", *all_queries(2000, 5, entries)))
    assert {unit.payload.merged for unit, _ in units} == {merged}
    filled_up = 0
    for unit, _ in units:
        _, counts = np.unique(unit.payload.label, return_counts=True)
        filled_up += sum(-(-count // BATCH) * BATCH for count in (counts if merged else [counts.sum()]))
    assert filled_up <= 1.5 * 2000 * 5 * entries  # What a budget is calculated with.
    assert len(units) <= UNITS_PER_ROUND


def test_classes_of_the_end_of_a_round_begin_the_next_one():
    here, queries = many_classes(), all_queries(2000, 5, 4)
    there, back = (
        [{each.prompt for each in unit.payload.classes} for unit, _ in here.query_units("x", *queries, backwards=way)]
        for way in (False, True)
    )
    assert back[0] & there[-1]
    assert there[0] & back[-1]
    assert set.union(*back) == set.union(*there)
