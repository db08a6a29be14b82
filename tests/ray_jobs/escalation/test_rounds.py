"""Rounds of questions: cut into units that answer each once, and merged adapters where they pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_jobs.escalation.rounds import FORWARDS_A_UNIT, ROWS_A_UNIT, RoundState, decide
from ray_jobs.steps.diffusion_worker import ClassPrompt

STEPS = np.arange(5, 1000, 10)
BATCH = 16


def contest(*, images=6, classes=3, adapter="adapters/tif/x"):
    return RoundState(
        parts=("latents/a", "latents/b"),
        part=np.arange(images) % 2,
        row=np.arange(images) // 2,
        candidates=np.tile(np.arange(classes), (images, 1)),
        class_prompt=tuple(ClassPrompt(f"class {k}", adapter) for k in range(classes)),
        steps=STEPS,
        seed=0,
        scale=1.0,
        batch_size=BATCH,
    )


def everything(images, classes, entries):
    grids = np.meshgrid(np.arange(images), np.arange(classes), np.arange(entries), indexing="ij")
    return tuple(grid.ravel() for grid in grids)


@pytest.mark.parametrize("entries", [4, 100])
def test_every_question_is_in_one_unit_and_says_what_was_asked(entries):
    here = contest(images=40)
    image, column, entry = everything(40, 3, entries)
    seen = np.zeros(len(image), dtype=int)
    for unit, rows in here.units("answers", image, column, entry):
        seen[rows] += 1
        asked = unit.payload
        assert 0 < len(rows) <= 2 * ROWS_A_UNIT
        places = [(excerpt.path, row) for excerpt in asked.latents for row in excerpt.rows]
        assert len(set(places)) == len(places)
        of_image = [(here.parts[here.part[i]], here.row[i]) for i in image[rows]]
        assert [places[place] for place in asked.image] == of_image
        assert asked.step.tolist() == STEPS[entry[rows]].tolist()
        assert [asked.classes[k].prompt for k in asked.label] == [f"class {k}" for k in column[rows]]
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("entries", "adapter", "merged"),
    [(100, "adapters/tif/x", True), (8, "adapters/tif/x", False), (100, None, False)],
)
def test_adapters_are_merged_where_a_class_has_many_questions(entries, adapter, merged):
    units = list(contest(adapter=adapter).units("answers", *everything(6, 3, entries)))
    assert {unit.payload.merged for unit, _ in units} == {merged}


def test_images_of_many_parts_share_forwards():
    images, classes, entries = 200, 2, 8
    here = replace(
        contest(images=images, classes=classes),
        parts=tuple(f"latents/{number}" for number in range(images)),
        part=np.arange(images),
        row=np.zeros(images, dtype=int),
    )
    units = list(here.units("answers", *everything(images, classes, entries)))
    read = [excerpt.path for unit, _ in units for excerpt in unit.payload.latents]
    assert len(read) == len(set(read)) == images
    sizes = [len(rows) for _, rows in units]
    filled_up = sum(-(-size // BATCH) * BATCH for size in sizes)
    assert filled_up <= (1 + 1 / FORWARDS_A_UNIT) * images * classes * entries
    assert len(sizes) > 8


def test_units_are_named_after_their_questions():
    here, asked = contest(), everything(6, 3, 4)
    names = [unit.path for unit, _ in here.units("answers", *asked)]
    assert len(set(names)) == len(names)
    assert names == [unit.path for unit, _ in here.units("answers", *asked)]
    fewer = [unit.path for unit, _ in here.units("answers", *(part[1:] for part in asked))]
    assert set(fewer) != set(names)


@pytest.mark.parametrize("schedule", ["racing", "published", "exhaustive"])
def test_a_clear_winner_wins_and_missing_candidates_never_do(schedule):
    table = torch.rand(5, 4, 60, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.1
    winners = torch.tensor([2, 0, 1, 1, 0])
    table[torch.arange(5), winners] -= 0.05
    table[:, 3] = 0.0  # Would win, but is no candidate.
    present = torch.tensor([[True, True, True, False]] * 4 + [[True, False, False, False]])

    def ask(_, image, column, entry):
        assert column.max() < 3
        return table[image, column, entry].numpy()

    decision = decide(schedule, present, 60, ask, error_rate=0.05)
    assert decision.winner.tolist() == winners.tolist()
    assert decision.ranking[:, 0].tolist() == winners.tolist()
    assert (decision.margins[:4] > 0).all()
    assert decision.forwards <= 4 * 3 * 60
    assert not decision.asked[4].any()  # One candidate needs no question.
