"""The licence of weights is read where they state it, from files of this machine."""

from __future__ import annotations

import huggingface_hub
import pytest

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.licences import licence_in
from tests.clip_kinds import KINDS
from tests.timm_folder import write_timm_folder

COMMIT = "1" * 40


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags: [clip]\nlicense: 'apache-2.0'\n---\nlicense: gpl\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: apple-amlr\n---\n", "apple-amlr"),
        ("---\nlicense:\n- mit\n---\n", None),
        ("# A model\nlicense: mit\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_front_matter_of_a_card_names_the_licence(tmp_path, card, expected):
    (tmp_path / "README.md").write_text(card)
    assert licence_in(tmp_path / "README.md") == expected


def test_a_folder_and_a_snapshot_of_the_hub_have_their_cards(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = KINDS["ViT-B-32"].write(tmp_path / "models--org--repo" / "snapshots" / COMMIT)
    specs = [ClipSpec(model=str(snapshot)), ClipSpec(model=f"hf-hub:org/repo@{COMMIT}")]
    assert [load_clip(spec).record.licence for spec in specs] == [None, None]
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    assert [load_clip(spec).record.licence for spec in specs] == ["mit", "mit"]


def test_weights_of_ones_own_have_not_the_licence_of_the_name(tmp_path):
    _, folder = write_timm_folder(tmp_path / "tower", "test_vit")
    own = ClipSpec(model="timm:test_vit", pretrained=str(folder / "model.safetensors"))
    assert load_clip(own).record.licence is None
    assert load_clip(ClipSpec(model=f"timm:{folder}")).record.licence == "apache-2.0"
