"""A repository on the hub is named, and loaded, by the commit that it has when a job begins."""

from __future__ import annotations

import shutil
from dataclasses import replace

import huggingface_hub
import pytest
import torch

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.hub_repository import HubRepository
from fewshot.errors import BackboneError
from tests.clip_kinds import KINDS

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A cache of the hub with two commits of org/repo, on a machine that does not reach the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--repo"
    for commit, kind in ((FIRST, "ViT-B-32"), (SECOND, "RN50")):
        KINDS[kind].write(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(FIRST)
    (repository / "refs" / "v2").write_text(SECOND)
    return repository


def test_a_job_pins_a_name_to_the_commit_of_its_revision(hub):
    assert ClipSpec(model="hf-hub:org/repo").pinned().model == f"hf-hub:org/repo@{FIRST}"
    assert ClipSpec(model="hf-hub:org/repo@v2").pinned().model == f"hf-hub:org/repo@{SECOND}"
    assert ClipSpec(model=f"hf-hub:org/repo@{SECOND}").pinned().model == f"hf-hub:org/repo@{SECOND}"
    assert ClipSpec().pinned() == ClipSpec()


def test_another_commit_is_another_identity_and_none_is_refused(hub):
    spec = ClipSpec(model="hf-hub:org/repo", precision="fp32")
    with pytest.raises(ValueError, match="names no features without a commit"):
        spec.identity()
    before = spec.pinned().identity()
    assert before == spec.pinned().identity()
    (hub / "refs" / "main").write_text(SECOND)
    assert spec.pinned().identity() != before


def test_a_commit_is_loaded_whatever_the_branch_has_now(hub):
    first = load_clip(ClipSpec(model=f"hf-hub:org/repo@{FIRST}"))
    second = load_clip(ClipSpec(model=f"hf-hub:org/repo@{SECOND}"))
    assert (first.input_size, second.input_size) == ((32, 32), (64, 64))
    folder = load_clip(ClipSpec(model=str(hub / "snapshots" / FIRST)))
    images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(first.embed_images(images), folder.embed_images(images))
    assert torch.equal(first.embed_texts(["a cat"]), folder.embed_texts(["a cat"]))


def test_a_tokenizer_of_the_repository_comes_from_the_same_commit(hub, monkeypatch):
    import json

    import transformers

    kind = KINDS["SigLIP"]
    text = kind.config["text_cfg"] | {"hf_tokenizer_name": "org/repo"}
    shutil.rmtree(hub / "snapshots" / FIRST)
    folder = replace(kind, config=kind.config | {"text_cfg": text}).write(hub / "snapshots" / FIRST)
    asked = []

    def from_pretrained(name, *, cache_dir=None, **options):
        asked.append((name, options))
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    load_clip(ClipSpec(model="hf-hub:org/repo"))
    assert asked == [("org/repo", {"revision": FIRST})]
    assert json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"] == text


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:a b/c", "hf-hub:a/../b@x@y"])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(BackboneError, match="expected 'hf-hub:org/repo'"):
        ClipSpec(model=name).check()


def test_a_repository_that_is_not_here_is_reported_with_what_to_do(hub):
    with pytest.raises(BackboneError, match=r"cannot read open_clip_config.json of hf-hub:org/other: .*name a commit"):
        HubRepository("org/other").pinned()
