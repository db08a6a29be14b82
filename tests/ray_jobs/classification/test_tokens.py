"""Methods that learn tokens of a diffusion model, as jobs use them: latents of the examples first, then features."""

from __future__ import annotations

import pytest

from fewshot.diffusion.tokens import merged_tokens
from tests.ray_jobs.place import CLASSES
from tests.tiny_diffusion import WIDTH, write_tiny_diffusion


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    return write_tiny_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.mark.parametrize("method", ["mcti", "textual_inversion"])
def test_an_archive_is_labelled_with_learned_tokens(place, diffusion, method):
    place.write_job(
        classifier={"method": method, "hyperparameters": {"steps": 2, "images": 1, "word": "photo"}},
        diffusion={"model": str(diffusion), "batch_size": 8},
    )
    outcome = place.classify()
    assert outcome.code == 0, outcome.messages
    assert {row["decided_by"] for row in outcome.rows.values()} == {method, None}
    assert {row["label"] for row in outcome.rows.values()} <= {*CLASSES, None}
    files = sorted((place.output / "classifiers" / method).glob("*/tokens/*.safetensors"))
    tokens = merged_tokens(file.read_bytes() for file in files)
    assert {name: tuple(vector.shape) for name, vector in tokens.items()} == {
        f"<cls-000{k}>": (WIDTH,) for k in range(3)
    }
    again = place.classify()
    assert again.result["did"] == "nothing"


def test_a_missing_diffusion_model_is_reported_first(place):
    place.write_job(classifier={"method": "mcti"}, diffusion={"model": "/no/such/folder"})
    outcome = place.classify()
    assert outcome.code == 2
    assert "[diffusion] model: no folder '/no/such/folder'" in outcome.messages
