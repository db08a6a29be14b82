"""A job finds the commit of a CLIP on the hub once, and names it in everything that it writes."""

from __future__ import annotations

import huggingface_hub
import pytest
import tomlkit

from tests.clip_kinds import KINDS
from tests.ray_jobs.place import Place

COMMIT = "ab" * 20


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A machine that does not reach the hub, with a cache of it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--org--repo"
    KINDS["ViT-B-32"].write(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


def test_a_classifier_stays_with_the_commit_that_it_was_trained_on(hub, tmp_path):
    place = Place(tmp_path, tmp_path / "none").fill(images=3)
    place.write_job(clip={"model": "hf-hub:org/repo"})
    outcome = place.classify()
    assert outcome.code == 0, outcome.messages
    assert f"hf-hub:org/repo@{COMMIT}" in (outcome.run / "job.toml").read_text()
    (hub / "refs" / "main").write_text("cd" * 20)  # The branch moves on; the classifier does not.
    (classifier,) = (place.output / "classifiers" / "tip_adapter").iterdir()
    sections = tomlkit.parse(place.job.read_text())
    del sections["support"]
    sections["classifier"] = {"from": str(classifier)}
    place.job.write_text(tomlkit.dumps(sections))
    again = place.classify()
    assert again.code == 0, again.messages
    assert [row["label"] for row in again.rows.values()] == [row["label"] for row in outcome.rows.values()]


def test_a_repository_that_is_nowhere_stops_the_job(hub, tmp_path):
    place = Place(tmp_path, tmp_path / "none").fill(images=3)
    place.write_job(clip={"model": "hf-hub:org/other"})
    outcome = place.classify()
    assert outcome.code == 2
    assert "[clip] cannot read open_clip_config.json of hf-hub:org/other" in outcome.messages
