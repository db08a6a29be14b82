"""The section for a GPU runs on the CPU at toy size; its rates are not checked."""

import pytest
import torch

from tests.bench import gpu, gpu_rates
from tests.bench.random_networks import DiffusionShape
from tests.stable_diffusion import TEXT, UNET

TOY = gpu.Sizes(
    clips=("toy",),
    batch=2,
    matrix=16,
    diffusion=DiffusionShape(
        unet=UNET
        | {
            "sample_size": 8,
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": (1, 2),
            "cross_attention_dim": 64,
        },
        text=TEXT
        | {
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "max_position_embeddings": 7,
        },
    ),
    rows=2,
    classes=2,
    blocks=(1, 2),
    decode_threads=1,
)


@pytest.fixture
def toy_clip(monkeypatch):
    """Make "toy" the name of a small architecture of open_clip."""
    import open_clip

    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "toy", config)


@pytest.mark.slow
def test_every_row_of_the_gpu_table_is_measured(toy_clip, monkeypatch):
    monkeypatch.setattr(gpu_rates, "MIN_S", 0.01)
    result = gpu.run(images=3, repeat=1, sizes=TOY, device="cpu")
    measured = [(row["what"], row["how"]) for row in result.rows[1:]]
    assert measured == [
        ("toy", gpu.FORWARD),
        ("toy", gpu.FROM_FILES),
        ("UNet, 2 rows", gpu.BARE),
        ("UNet, 2 rows", gpu.STACKED),
        ("UNet, 2 rows", gpu.NAMED),
        (gpu.TRAINING, "2 rows of 1 classes"),
        (gpu.TRAINING, "4 rows of 2 classes"),
    ]
    assert all(row["a second"] > 0 and row["TFLOP/s"] > 0 for row in result.rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_section_says_so():
    with pytest.raises(SystemExit, match="PyTorch finds none"):
        gpu.run(images=3, repeat=1)


def test_operations_are_those_of_the_matrices():
    left, right = torch.randn(3, 5), torch.randn(5, 7)
    assert gpu_rates.flops_of(lambda: left @ right) == 2 * 3 * 5 * 7
