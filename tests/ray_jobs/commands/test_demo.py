"""The demo, and the job on real photographs: with the embedded CLIP, as a user runs them."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.place import Place, fewshot, put, written

PICTURES, BROKEN = 285, 6


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.embedded
def test_the_demo_labels_its_archive_on_ray(ray_session, tmp_path):
    outcome = fewshot("demo", "--folder", tmp_path)
    assert outcome.code == 0
    result = outcome.result
    assert (result["complete"], result["images"], result["unreadable"]) == (True, PICTURES + BROKEN, BROKEN)
    assert result["measured"]["labelled_images"] == PICTURES
    assert result["measured"]["accuracy"] > 0.3
    assert result["measured"]["accuracy_of_accepted"] > result["measured"]["accuracy"]
    assert all(row["error"] for image, row in outcome.rows.items() if image.startswith("broken/"))
    assert "on Ray on this machine" in outcome.messages
    before = written(tmp_path / "output")
    again = fewshot("classify", tmp_path / "job.toml")
    assert (again.code, again.result["did"], written(tmp_path / "output")) == (0, "nothing", before)
    commands = [shlex.split(line)[1:] for line in outcome.messages.splitlines() if line.startswith("  fewshot ")]
    assert [command[0] for command in commands] == ["classify", "evaluate"]
    assert fewshot(*commands[0]).result["method"] == "ape"
    assert read_job(commands[1][1], needs=("evaluate",))[1] == []


@pytest.mark.slow
@pytest.mark.embedded
@pytest.mark.bench_data
@pytest.mark.skipif("FEWSHOT_BENCH_DATA" not in os.environ, reason="FEWSHOT_BENCH_DATA names no folder")
def test_real_photographs_are_labelled_far_above_chance(tmp_path):
    grocery = Path(os.environ["FEWSHOT_BENCH_DATA"]) / "grocery"
    splits = json.loads((grocery / "splits.json").read_text())
    truth = dict(splits["test"][:: len(splits["test"]) // 80][:80])
    for path in truth:
        put(tmp_path / "archive" / path, (grocery / path).read_bytes())
    place = Place(tmp_path, tmp_path)
    place.write_job(
        clip={"model": "embedded", "batch_size": 4},
        support={"uri": str(grocery / "splits.json"), "shots": 1, "views": 0},
    )
    outcome = place.classify()
    assert outcome.code == 0
    assert outcome.rows.keys() == truth.keys()
    hits = [row["label"] == splits["classes"][truth[image]] for image, row in outcome.rows.items()]
    assert sum(hits) > 0.2 * len(hits)
