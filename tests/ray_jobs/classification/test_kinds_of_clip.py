"""CLIPs of every kind that users name go through a whole job, with random weights: plan, classify, predictions."""

from __future__ import annotations

import pytest

from tests.clip_kinds import KINDS
from tests.ray_jobs.place import BROKEN, CLASSES, Place, fewshot


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_planned_and_embeds_trains_and_labels(tmp_path, kind):
    place = Place(tmp_path, KINDS[kind].write(tmp_path / "clip")).fill(images=6, shots=2)
    planned = fewshot("plan", place.job, "--no-probe")
    assert planned.code == 0, planned.messages
    outcomes = {method: place.classify(f'classifier.method="{method}"') for method in ("zero_shot", "tip_adapter")}
    for outcome in outcomes.values():
        assert outcome.code == 0, outcome.messages
        assert {row["label"] for name, row in outcome.rows.items() if name not in BROKEN} <= set(CLASSES)
    assert outcomes["tip_adapter"].result["ok"] == 6
    assert str(outcomes["tip_adapter"].run) == planned.result["run"]
    assert len({str(name) for name in place.features()}) > 0
