"""A frozen text-to-image model: latents, contexts and predicted noise, with bits that do not depend on the batch.

`predict` returns noise for every model: from a predicted velocity v (arXiv 2202.00512) the noise is
eps = sqrt(a) v + sqrt(1 - a) x_t, with a = `alphas_cumprod` at the step, so that errors are always errors of the noise
and comparable between models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as pixels

from fewshot.backbones.determinism import TEXT_BATCH, pad_with_copies, pad_with_zeros
from fewshot.backbones.diffusion.noise_schedule import noise_levels
from fewshot.prompt_templates import OBJECT_TEMPLATES

PredictionType = Literal["epsilon", "v_prediction"]
VAE_ROWS = 4
"""Rows of a forward of the VAE, always. Escalated images come a few from each shard, so that more rows would mostly be
padding; and a few pictures keep a device busy."""


@dataclass(frozen=True)
class DiffusionBackbone:
    """A loaded diffusion model, see `fewshot.backbones.diffusion.load_diffusion`.

    Attributes:
        vae, text_encoder, unet: diffusers' and transformers' modules, frozen, in evaluation mode, on `device`.
        tokenizer: transformers' tokenizer of the text encoder.
        alphas_cumprod: [T] float64 on the CPU, in (0, 1), falling: the share of signal at each time-step.
        prediction_type: the target that the UNet was trained to predict.
        image_size: H = W in pixels.
        latent_shape: (C, h, w) of an image's latents.
        batch_size: rows of a scoring forward of the UNet, always: a smaller batch is padded to it.
        device: of the networks.
        dtype: of text encoder and UNet. The VAE is float32: an image is encoded once and scored hundreds of times.
        projection: [D, width] float32 on the CPU: a pooled text times its transpose lies in the space of the CLIP whose
            text encoder the model uses. None where the model's folder has none.
        templates: of prompts like those of the model's training, each with one "{}" at its end.
    """

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    alphas_cumprod: Tensor
    prediction_type: PredictionType
    image_size: int
    latent_shape: tuple[int, int, int]
    batch_size: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    projection: Tensor | None = None
    templates: tuple[str, ...] = OBJECT_TEMPLATES

    def crop(self, image: Image.Image) -> Tensor:
        """Resize the shorter side of an image (bicubic) and crop its centre, as in the model's training.

        Args:
            image: PIL RGB of any size.

        Returns:
            [3, H, W] uint8.
        """
        resized = pixels.resize(image, [self.image_size], InterpolationMode.BICUBIC)
        square: Tensor = pixels.pil_to_tensor(pixels.center_crop(resized, [self.image_size]))
        return square

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images with the VAE. Every forward has `VAE_ROWS` rows, missing ones zero.

        Args:
            images: [N, 3, H, W] uint8, from `crop`.

        Returns:
            Mean and standard deviation of the posterior [N, C, h, w], float32 on the CPU, both times the scaling
            factor: latents as the UNet takes them.
        """
        parts = [self._posterior(part) for part in torch.split(images, VAE_ROWS)]
        mean, std = torch.cat(parts or [torch.empty(0, 2, *self.latent_shape)]).unbind(dim=1)
        return mean, std

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the mean of `posterior`, [N, C, h, w] float32."""
        return self.posterior(images)[0]

    def _posterior(self, images: Tensor) -> Tensor:
        """[b, 2, C, h, w] of at most `VAE_ROWS` images."""
        full = pad_with_zeros(images, VAE_ROWS).to(self.device, torch.float32).div(127.5).sub(1.0)
        found = self.vae.encode(full).latent_dist
        mean_and_std = torch.stack([found.mean, found.std], dim=1)
        scaled: Tensor = mean_and_std * self.vae.config.scaling_factor
        return scaled.cpu()[: len(images)]

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents into images. Every forward has `VAE_ROWS` rows, missing ones zero.

        Args:
            latents: [N, C, h, w] float32, as the UNet takes them.

        Returns:
            [N, 3, H, W] uint8 on the CPU.
        """
        parts = [self._decoded(part) for part in torch.split(latents, VAE_ROWS)]
        return torch.cat(parts or [torch.empty(0, 3, self.image_size, self.image_size, dtype=torch.uint8)])

    def _decoded(self, latents: Tensor) -> Tensor:
        """[b, 3, H, W] uint8 of at most `VAE_ROWS` latents."""
        full = pad_with_zeros(latents, VAE_ROWS).to(self.device, torch.float32) / self.vae.config.scaling_factor
        images: Tensor = self.vae.decode(full).sample
        return images.add(1.0).mul(127.5).round().clamp(0.0, 255.0).to(torch.uint8).cpu()[: len(latents)]

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Tokenize T texts to [T, L] int64, cut at and padded to the text encoder's length L."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        ids: Tensor = tokens.input_ids
        return ids

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Run one forward of the text encoder, differentiable in vectors and adapters that are put into it.

        Args:
            ids: [T, L] int64.

        Returns:
            [T, L, width] float32 on `device`: the last hidden states, after the last normalisation (and, in folders
            of SD 2.x, which drop the text encoder's last layer, the last but one). There is no attention mask: Stable
            Diffusion was trained with the padding in the context.
        """
        states: Tensor = self.text_encoder(ids.to(self.device)).last_hidden_state
        return states.float()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode T texts to [T, L, width] float32 on the CPU, see `embed_ids`. Every forward has `TEXT_BATCH` rows."""
        parts = torch.split(self.token_ids(texts), TEXT_BATCH)
        return torch.cat([self.embed_ids(pad_with_copies(part, TEXT_BATCH)).cpu()[: len(part)] for part in parts])

    def predict(self, noisy: Tensor, steps: Tensor, context: Tensor) -> Tensor:
        """Run one forward of the UNet, differentiable, without guidance.

        Args:
            noisy: [B, C, h, w] float32, see `fewshot.backbones.diffusion.noise_schedule.add_noise`.
            steps: [B] int64 in [0, T).
            context: [B, L, width] float32, see `embed_ids`.

        Returns:
            [B, C, h, w] float32 on `device`: the predicted noise (see the module's docstring).
        """
        noisy, context = noisy.to(self.device, torch.float32), context.to(self.device, self.dtype)
        out: Tensor = self.unet(noisy.to(self.dtype), steps.to(self.device), encoder_hidden_states=context).sample
        if self.prediction_type == "epsilon":
            return out.float()
        levels = noise_levels(self.alphas_cumprod, steps)
        signal, spread = (part.to(self.device)[:, None, None, None] for part in levels)
        return signal * out.float() + spread * noisy
