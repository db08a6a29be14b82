"""Families that users name today, in their real sizes with random weights, through a local checkpoint."""

from __future__ import annotations

import logging

import open_clip
import pytest
import torch
import transformers
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.weight_conventions import PREPROCESSING
from tests.clip_kinds import KINDS
from tests.strange_files import photo

pytestmark = pytest.mark.slow


@pytest.fixture
def small_vocabulary(monkeypatch, tmp_path):
    """SigLIP 2 with a tokenizer of letters: its own is on the hub, and its 256,000 embeddings are half of its size."""
    name = "ViT-B-32-SigLIP2-256"
    config = open_clip.get_model_config(name)
    config["text_cfg"]["vocab_size"] = KINDS["SigLIP"].config["text_cfg"]["vocab_size"]
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", open_clip.factory._MODEL_CONFIGS | {name: config})
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(KINDS["SigLIP"].write(tmp_path / "letters"))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)


@pytest.mark.parametrize("name", ["MobileCLIP2-S0", "PE-Core-T-16-384", "ViT-B-32-SigLIP2-256"])
def test_a_checkpoint_of_a_name_gives_the_features_of_open_clip(name, tmp_path, small_vocabulary, caplog):
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    save_file({key: each.contiguous() for key, each in model.state_dict().items()}, tmp_path / "weights.safetensors")
    caplog.clear()
    caplog.set_level(logging.WARNING)
    clip = load_clip(ClipSpec(model=name, pretrained=str(tmp_path / "weights.safetensors"), batch_size=1))
    assert caplog.text == ""
    stated = get_pretrained_cfg(name, open_clip.list_pretrained_tags_by_model(name)[0])
    config = PreprocessCfg(size=clip.input_size, **{key: stated[key] for key in PREPROCESSING})
    with torch.inference_mode():
        image = model.encode_image(image_transform_v2(config, is_train=False)(photo(300, 200))[None])
        texts = model.encode_text(open_clip.get_tokenizer(name)(["a cat", "dogs"]))
    found = clip.embed_images(clip.crop(photo(300, 200))[None])
    assert torch.nn.functional.cosine_similarity(found, image).item() > 0.999
    torch.testing.assert_close(clip.embed_texts(["a cat", "dogs"]), texts, atol=1e-4, rtol=1e-4)
    assert (clip.record.logit_bias is None) == ("SigLIP" not in name)
