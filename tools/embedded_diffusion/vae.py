"""An autoencoder whose encoder is constructed instead of trained: the principal components of 4 × 4 patches.

`AutoencoderKL` can represent a linear map of patches almost exactly. The first two levels move each patch's 48 numbers
into channels (a stride-2 convolution with one-hot kernels); the second downsampling computes each component twice, with
both signs. The layers after it are not linear, but cancelled: a pair of large constants in each group makes group
normalisation a constant scale, and silu(a) - silu(-a) = a. Residual branches start at zero. The result is within 0.1 %
of the exact components, so the UNet can be trained after a second, and only the decoder needs training.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, unfold

LATENT_CHANNELS = 16
PATCH = 4
CHANNELS = (16, 48, 48)
GROUPS = 2
CONSTANT = 64.0
"""Value of the pair that dominates the variance of its group: much larger than any component."""
WHITENING = 0.6
"""A component is divided by its standard deviation to this power: 1 makes them equal, 0 keeps an image's spectrum."""


def principal_components(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the principal components of patches.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].

    Returns:
        The mean [48], the components [LATENT_CHANNELS, 48] (unit rows) and their standard deviations, in the order of
        `unfold`: colour, row, column.
    """
    patches = unfold(images, PATCH, stride=PATCH).transpose(1, 2).reshape(-1, 3 * PATCH**2).double()
    mean = patches.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    top = torch.arange(len(values) - 1, len(values) - 1 - LATENT_CHANNELS, -1)
    return mean.float(), vectors[:, top].T.float(), values[top].sqrt().float()


@torch.no_grad()
def build(images: Tensor) -> AutoencoderKL:
    """Return the autoencoder with its encoder constructed and an untrained decoder.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1], the source of the patches.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        sample_size=32,
    )
    mean, components, deviations = principal_components(images)
    rows = components / deviations[:, None] ** WHITENING  # [16, 48]
    encoder = vae.encoder
    for name, module in encoder.named_modules():
        if name.endswith("conv2"):  # The last layer of a residual branch.
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        if name.endswith("conv_shortcut"):
            _identity(module)
    _identity(encoder.conv_in)
    _space_to_depth(encoder.down_blocks[0].downsamplers[0].conv)
    _signed_components(encoder.down_blocks[1].downsamplers[0].conv, rows, rows @ mean)
    _cancel_normalisation(encoder)
    _identity(vae.quant_conv)
    vae.quant_conv.bias.zero_()
    _identity(vae.post_quant_conv)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(256)])
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    for name, module in vae.decoder.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
    return vae


def _identity(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    for channel in range(min(conv.weight.shape[:2])):
        conv.weight[channel, channel, middle, middle] = 1.0


def _space_to_depth(conv: nn.Conv2d) -> None:
    """Move colour c at row i, column j of a 2 × 2 patch to channel 4c + 2i + j."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    for c in range(3):
        for i in range(2):
            for j in range(2):
                conv.weight[4 * c + 2 * i + j, c, i, j] = 1.0


def _signed_components(conv: nn.Conv2d, rows: Tensor, offset: Tensor) -> None:
    """Put half of the components into each of two groups: positive, negative, then the constants."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    patches = rows.view(len(rows), 3, PATCH, PATCH)
    for k in range(len(rows)):
        for sign, channel in ((1.0, _positive(k)), (-1.0, _positive(k) + LATENT_CHANNELS // GROUPS)):
            for c in range(3):
                for i in range(PATCH):
                    for j in range(PATCH):
                        source = 4 * c + 2 * (i % 2) + j % 2
                        conv.weight[channel, source, i // 2, j // 2] = sign * patches[k, c, i, j]
            conv.bias[channel] = -sign * offset[k]
    for group in range(GROUPS):
        constants = group * CHANNELS[1] // GROUPS + 2 * LATENT_CHANNELS // GROUPS
        conv.bias[constants], conv.bias[constants + 1] = CONSTANT, -CONSTANT


def _positive(k: int) -> int:
    """Return the channel of component k with its own sign."""
    group, position = divmod(k, LATENT_CHANNELS // GROUPS)
    return group * CHANNELS[1] // GROUPS + position


def _cancel_normalisation(encoder: nn.Module) -> None:
    """Scale by the inverse of group normalisation's divisor, and subtract the negative of each pair."""
    norm, conv = encoder.conv_norm_out, encoder.conv_out
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    scale = CONSTANT * math.sqrt(2 * GROUPS / CHANNELS[1])  # Root of the mean square over a group's channels.
    for k in range(LATENT_CHANNELS):
        conv.weight[k, _positive(k), 1, 1] = scale
        conv.weight[k, _positive(k) + LATENT_CHANNELS // GROUPS, 1, 1] = -scale
        conv.bias[LATENT_CHANNELS + k] = -6.0  # The logarithm of the posterior's variance.


def decoder_step(vae: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the loss of restoring one batch [B, 3, H, W] in [-1, 1] from samples of the posterior."""
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.sample(generator)
    decoded = vae.decode(latents).sample
    return mse_loss(decoded, images) + 0.1 * l1_loss(decoded, images)
