"""Acceptance property 13 of TiF: Stable Diffusion 2 has the published numbers of adapters and parameters."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from fewshot.diffusion.lora import block_filter_for, sites, unet_sites
from fewshot.errors import DataError
from tests.tiny_diffusion import tiny_diffusion

ATTENDS = "CrossAttnDownBlock2D"


def parameters(layers, rank):
    return sum(rank * (layer.in_features + layer.out_features) for layer in layers.values())


@pytest.fixture(scope="module")
def stable_diffusion():
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            layers_per_block=2,
            use_linear_projection=True,
        )


@pytest.mark.parametrize(
    ("blocks", "count", "millions_16", "millions_8"),
    [("all-2", 54, 3.02, 1.51), ("all-1", 99, 4.36, 2.18), ("none", 144, 5.12, 2.56)],
)
def test_a_filter_leaves_the_published_layers_and_parameters(stable_diffusion, blocks, count, millions_16, millions_8):
    layers = unet_sites(stable_diffusion, blocks)
    assert len(layers) == count
    assert round(parameters(layers, 16) / 1e6, 2) == millions_16
    assert round(parameters(layers, 8) / 1e6, 2) == millions_8


def test_a_filter_drops_the_shallowest_resolutions(stable_diffusion):
    assert {site.split(".attentions")[0] for site in unet_sites(stable_diffusion, "all-2")} == {
        "down_blocks.2",
        "mid_block",
        "up_blocks.1",
    }
    assert {site.split(".attentions")[0] for site in unet_sites(stable_diffusion, "all-1")} == {
        "down_blocks.1",
        "down_blocks.2",
        "mid_block",
        "up_blocks.1",
        "up_blocks.2",
    }


def test_every_layer_of_the_text_encoder_has_four_sites():
    with torch.device("meta"):
        encoder = CLIPTextModel(
            CLIPTextConfig(hidden_size=1024, num_hidden_layers=23, num_attention_heads=16, intermediate_size=4096)
        )
    layers = sites(encoder)
    assert len(layers) == 4 * 23
    assert round(parameters(layers, 16) / 1e6, 1) == 3.0


@pytest.mark.parametrize("blocks", ["all-1", "all-2"])
def test_the_deepest_resolution_with_attention_is_never_dropped(blocks):
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16),
            down_block_types=(ATTENDS, ATTENDS),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=2,
            layers_per_block=1,
        )
    assert {site.split(".attentions")[0] for site in unet_sites(unet, blocks)} == {
        "down_blocks.1",
        "mid_block",
        "up_blocks.0",
    }


def test_both_layouts_of_the_text_encoder_have_the_same_sites():
    encoder = tiny_diffusion().text_encoder
    old = torch.nn.Module()
    old.text_model = encoder
    assert sites(old) == sites(encoder)


@pytest.mark.parametrize(
    ("shots", "blocks"), [(1, "all-2"), (2, "all-2"), (4, "all-2"), (8, "all-1"), (16, "none"), (100, "none")]
)
def test_the_number_of_shots_decides_the_filter(shots, blocks):
    assert block_filter_for(shots) == blocks


def test_a_model_of_another_kind_is_refused():
    with torch.device("meta"):
        vae = AutoencoderKL()
    with pytest.raises(DataError, match="AutoencoderKL has no layer for an adapter"):
        sites(vae)
