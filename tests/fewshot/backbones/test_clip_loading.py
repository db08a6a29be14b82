"""Every open_clip model loads in the same way, and errors name what is missing and what to do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import replace

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fewshot.backbones import ClipSpec, load_clip
from fewshot.backbones.clip_spec import open_clip_models
from fewshot.errors import BackboneError, UnknownNameError
from tests.clip_kinds import KINDS
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("tiny_clip"))


def test_a_local_folder_gives_the_features_of_open_clip(tiny_folder):
    clip = load_clip(ClipSpec(model=str(tiny_folder), batch_size=4))
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_folder}")
    image = Image.effect_mandelbrot((80, 50), (-3, -2.5, 2, 2.5), 100).convert("RGB")
    values = transform(image)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    own = (clip.crop(image) / 255 - mean) / std
    assert (own - values).abs().max() < 2.01 / 255 / min(clip.std)  # test_image_crop.py has the exact bounds
    with torch.inference_mode():
        expected = model.eval().encode_image(own[None])
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_folder}")(["a cat"]))
    torch.testing.assert_close(clip.embed_images(clip.crop(image)[None]), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clip.embed_texts(["a cat"]), text, atol=1e-5, rtol=1e-5)


def test_the_identity_depends_on_weights_and_settings(tiny_folder, tmp_path):
    spec = ClipSpec(model=str(tiny_folder), precision="fp32")
    assert spec.identity() == ClipSpec(model=str(tiny_folder), precision="fp32").identity()
    assert spec.identity() != ClipSpec(model=str(tiny_folder), precision="bf16").identity()
    before = spec.identity()
    weights = tiny_folder / "open_clip_model.safetensors"
    saved = weights.read_bytes()
    weights.write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
    assert spec.identity() != before
    weights.write_bytes(saved)


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_the_scale_of_logits_stays_exact_in_every_precision(tiny_folder, precision):
    clip = load_clip(ClipSpec(model=str(tiny_folder), precision=precision))
    expected = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)  # "auto" on a CPU: fp32
    assert clip.dtype == clip.model.visual.conv1.weight.dtype == expected
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-6)


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_allowed_only_where_the_spec_says_so(tiny_folder, allowed):
    load_clip(ClipSpec(model=str(tiny_folder), precision="fp32", tf32=allowed))
    found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    load_clip(ClipSpec(model=str(tiny_folder)))
    assert found == (allowed, allowed)


def test_only_the_image_tower_is_compiled_and_dense_tokens_are_kept(tiny_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append((module, options)))
    clip = load_clip(ClipSpec(model=str(tiny_folder), compile=True, batch_size=2))
    assert compiled == [(clip.model.visual, {"dynamic": False})]
    images = torch.zeros(2, 3, *clip.input_size, dtype=torch.uint8)
    assert torch.equal(clip.embed_dense(images)[0], clip.embed_images(images))


def test_a_misspelled_model_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        load_clip(ClipSpec(model="ViT-B32", pretrained="openai"))


def test_an_open_clip_name_without_weights_is_refused_with_a_remedy():
    with pytest.raises(BackboneError, match=r"needs pretrained = one of its tags \(`fewshot models ViT-B-32`"):
        load_clip(ClipSpec(model="ViT-B-32"))


def test_model_names_from_files_equal_those_of_open_clip():
    assert open_clip_models() == sorted(open_clip.list_models())


def test_an_unknown_tag_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'laion2b_e16'"):
        load_clip(ClipSpec(model="ViT-B-32", pretrained="laion2b_e61"))


def test_a_missing_folder_is_named():
    with pytest.raises(BackboneError, match="no folder 'models/mine'"):
        load_clip(ClipSpec(model="models/mine"))


def test_a_checkpoint_of_another_model_is_refused_with_its_path(tmp_path):
    checkpoint = tmp_path / "weights.safetensors"
    save_file({"something.weight": torch.zeros(2)}, checkpoint)
    with pytest.raises(BackboneError, match=r"cannot load a CLIP from .*weights\.safetensors"):
        load_clip(ClipSpec(model="RN50", pretrained=str(checkpoint)))


def test_a_pickle_with_code_is_not_loaded(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    checkpoint = tmp_path / "weights.pt"
    torch.save({"state_dict": Evil()}, checkpoint, pickle_module=pickle)
    with pytest.raises(BackboneError, match="cannot load a CLIP"):
        load_clip(ClipSpec(model="RN50", pretrained=str(checkpoint)))
    assert not (tmp_path / "executed").exists()


def test_a_missing_gpu_is_reported():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackboneError, match="torch finds no GPU"):
        load_clip(ClipSpec(device="cuda"))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="batch_size"):
        ClipSpec(batch_size=0)
    with pytest.raises(ValueError, match="has weights of its own"):
        ClipSpec(pretrained="openai")


def run_advice(message, checkpoint):
    """Run the command that a message advises, for a checkpoint, and return the path of what it writes."""
    (command,) = re.findall(r"`(python .*?)`", message)
    words = shlex.split(command.replace("FILE", str(checkpoint)))
    subprocess.run([sys.executable, *words[1:]], check=True)
    return checkpoint.with_name(f"{checkpoint.name}.safetensors")


class Script(torch.nn.Module):
    """Tensors with the names of a state dict, and the three numbers that OpenAI's archives have beside them."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            owner = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = getattr(owner, part)
            owner.register_buffer(last, tensor)

    def forward(self):
        return self.logit_scale


@pytest.fixture
def tiny_rn50(monkeypatch):
    config = KINDS["RN50"].config
    given = {"RN50": config, "RN50-quickgelu": config | {"quick_gelu": True}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", open_clip.factory._MODEL_CONFIGS | given)
    torch.manual_seed(0)
    return open_clip.CLIP(**given["RN50-quickgelu"]).eval()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_the_advice_for_torchscript_leads_to_the_features_of_the_model(tiny_rn50, tmp_path):
    checkpoint = tmp_path / "RN50.pt"
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.jit.save(torch.jit.script(Script(tiny_rn50.state_dict() | numbers)), checkpoint)
    with pytest.raises(BackboneError, match="TorchScript, as OpenAI published its weights") as caught:
        load_clip(ClipSpec(model="RN50", pretrained=str(checkpoint)))
    assert "model to 'RN50-quickgelu'" in str(caught.value)
    clip = load_clip(ClipSpec(model="RN50-quickgelu", pretrained=str(run_advice(str(caught.value), checkpoint))))
    tokens = open_clip.SimpleTokenizer()(["a cat"])
    torch.testing.assert_close(clip.embed_texts(["a cat"]), tiny_rn50.encode_text(tokens).detach())


def test_the_advice_for_a_pickled_training_checkpoint_leads_to_its_weights(tiny_rn50, tmp_path):
    checkpoint = tmp_path / "epoch_1.pt"
    weights = {f"module.{name}": tensor for name, tensor in tiny_rn50.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": weights}, checkpoint)
    with pytest.raises(BackboneError, match="safetensors only") as caught:
        load_clip(ClipSpec(model="RN50", pretrained=str(checkpoint)))
    assert "TorchScript" not in str(caught.value)
    assert "weights_only=True" in str(caught.value)
    load_clip(ClipSpec(model="RN50", pretrained=str(run_advice(str(caught.value), checkpoint))))


@pytest.mark.parametrize(
    "odd", [{"resize_mode": "spiral"}, {"interpolation": "nearest"}, {"mean": "grey"}, {"size": [1, 2, 3]}]
)
def test_preprocessing_that_open_clip_does_not_have_is_refused(tmp_path, odd):
    kind = KINDS["ViT-B-32"]
    folder = replace(kind, preprocessing=odd).write(tmp_path / "clip")
    if "size" in odd:  # open_clip takes the size of the tower.
        assert load_clip(ClipSpec(model=str(folder))).input_size == (32, 32)
        return
    with pytest.raises(BackboneError, match="open_clip cannot preprocess images with"):
        load_clip(ClipSpec(model=str(folder)))


def test_warnings_of_libraries_are_logged_and_not_swallowed(tiny_folder, monkeypatch, caplog):
    create = open_clip.create_model

    def warn(*given, **options):
        for category in (UserWarning, UserWarning, DeprecationWarning):
            warnings.warn(f"{category.__name__}: the weights\nare odd", category, stacklevel=1)
        return create(*given, **options)

    monkeypatch.setattr(open_clip, "create_model", warn)
    load_clip(ClipSpec(model=str(tiny_folder)))
    (record,) = (record for record in caplog.records if "are odd" in record.getMessage())
    assert "warning='UserWarning: the weights are odd'" in record.getMessage()


def with_weights(folder, **tensors):
    """Replace tensors of a folder; None removes one."""
    weights = load_file(folder / "open_clip_model.safetensors") | tensors
    save_file(
        {name: each for name, each in weights.items() if each is not None}, folder / "open_clip_model.safetensors"
    )
    return str(folder)


@pytest.mark.parametrize("scale", [float("nan"), 200.0, -200.0])
def test_a_scale_of_logits_that_is_none_is_refused(tmp_path, scale):
    folder = with_weights(KINDS["RN50"].write(tmp_path / "clip"), logit_scale=torch.tensor(scale))
    with pytest.raises(BackboneError, match="the model's logit_scale is"):
        load_clip(ClipSpec(model=folder))


def test_an_error_of_weights_names_the_tensor_that_is_missing(tmp_path):
    folder = with_weights(KINDS["RN50"].write(tmp_path / "clip"), logit_scale=None)
    with pytest.raises(BackboneError, match=r'Missing key\(s\) in state_dict: "logit_scale"'):
        load_clip(ClipSpec(model=folder))


@pytest.mark.parametrize(("preprocessing", "missing"), [({}, "['mean', 'std']"), ({"mean": [0.5] * 3}, "['std']")])
def test_a_configuration_without_normalisation_is_reported(tmp_path, caplog, preprocessing, missing):
    folder = replace(KINDS["RN50"], preprocessing=preprocessing).write(tmp_path / "clip")
    load_clip(ClipSpec(model=str(folder)))
    (record,) = (record for record in caplog.records if "preprocess_cfg" in record.getMessage())
    assert f'missing={missing} assumed="the normalisation of OpenAI\'s models"' in record.getMessage()


def test_a_folder_without_its_tokenizer_says_which_one_it_needs(tmp_path):
    folder = KINDS["SigLIP"].write(tmp_path / "clip")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BackboneError, match=r"has no tokenizer: .*from_pretrained\('anywhere'\)"):
        load_clip(ClipSpec(model=str(folder)))


@pytest.fixture
def siglip_name(monkeypatch, tmp_path):
    """Make a name of open_clip a tiny SigLIP, on a machine without the hub, and return its folder."""
    import transformers

    def unreachable(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")

    text = KINDS["SigLIP"].config["text_cfg"] | {"hf_tokenizer_name": "timm/siglip"}
    config = {"ViT-B-32-SigLIP2-256": KINDS["SigLIP"].config | {"text_cfg": text}}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", open_clip.factory._MODEL_CONFIGS | config)
    folder = KINDS["SigLIP"].write(tmp_path / "clip")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", unreachable)
    return folder, tokenizer


def test_a_tokenizer_that_is_on_the_hub_alone_is_named_with_a_way_around_it(siglip_name, monkeypatch, tmp_path):
    import transformers

    folder, tokenizer = siglip_name
    checkpoint = str(folder / "open_clip_model.safetensors")
    with pytest.raises(BackboneError, match="the weights are here, but the tokenizer is not") as caught:
        load_clip(ClipSpec(model="ViT-B-32-SigLIP2-256", pretrained=checkpoint))
    assert "couldn't connect" in str(caught.value)
    (command,) = re.findall(r"`(python .*?)`", str(caught.value))
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", {"timm/siglip": tokenizer}.__getitem__)
    exec(shlex.split(command.replace("FOLDER", str(tmp_path / "tokenizer")))[2])
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
