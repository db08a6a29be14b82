"""Train the diffusion model of the package on the demo's emoji.

    python -m tools.embedded_diffusion FOLDER [--steps 12000]

It writes a Stable-Diffusion-shaped folder in diffusers' layout, and beside it `text_projection.safetensors`, which
maps the text encoder's pooled output into the image space of the embedded CLIP. On one core of a 3 GHz Xeon it takes
about an hour. A checkpoint is kept every 500 steps, and the same command continues from it.

Three parts are trained: first the decoder (the encoder is constructed, see `vae`), then the UNet and the text encoder
together, on the noise error and, with a small weight, a contrastive loss against the image tower.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fewshot.demo.scenes import NO_BADGE, Glyphs, Scenes, describe, draw_scenes, load_glyphs, render
from tools.embedded_diffusion import networks, vae
from tools.embedded_diffusion.caption_tokenizer import train_tokenizer
from tools.embedded_diffusion.image_text_alignment import contrastive_loss, image_features

logger = logging.getLogger("embedded_diffusion")

BATCH = 32
BADGES, NO_CAPTION = 0.35, 0.1
CONTRAST = 0.05
"""Weight of the contrastive loss beside the noise error."""
RATE, WARM_UP, FLAT = 1e-3, 200, 0.4
EMA = 0.999
DECODER_STEPS, DECODER_RATE = 2500, 3e-3


@dataclass
class Model:
    """The parts that are trained or stored."""

    tokenizer: Any
    text_encoder: Any
    projection: nn.Linear
    log_scale: nn.Parameter
    vae: Any
    unet: Any
    schedule: Any

    def trained(self) -> nn.ModuleList:
        """Return the parts that the second stage trains."""
        return nn.ModuleList([self.unet, self.text_encoder, self.projection])

    def ids(self, captions: list[str]) -> Tensor:
        """Tokenize B captions to [B, L] int64."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids: Tensor = tokens.input_ids
        return ids


def draw_training_scenes(glyphs: Glyphs, count: int, generator: torch.Generator) -> Scenes:
    """Draw scenes of the emoji of the training, some with a badge."""
    shown = torch.tensor(glyphs.shown)
    glyph, badge = shown[torch.randint(len(shown), (2, count), generator=generator)]
    has_badge = torch.rand(count, generator=generator) < BADGES
    return draw_scenes(glyph, generator=generator, badge=badge.where(has_badge, NO_BADGE))


def train_decoder(model: Model, glyphs: Glyphs, generator: torch.Generator) -> None:
    """Train the decoder to restore pictures from samples of the posterior."""
    optimizer = torch.optim.AdamW(model.vae.decoder.parameters(), DECODER_RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, DECODER_STEPS)
    for step in range(DECODER_STEPS):
        images = render(draw_training_scenes(glyphs, 16, generator), glyphs) * 2 - 1
        loss = vae.decoder_step(model.vae, images, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if step % 250 == 0:
            logger.info("decoder step=%d of=%d loss=%.4f", step, DECODER_STEPS, loss.item())


def losses(model: Model, glyphs: Glyphs, bank: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the noise error and the contrastive loss of one batch."""
    scenes = draw_training_scenes(glyphs, BATCH, generator)
    captions = describe(scenes, glyphs.names, generator=generator)
    without_caption = torch.rand(BATCH, generator=generator) < NO_CAPTION
    ids = model.ids(["" if s else c for s, c in zip(without_caption.tolist(), captions, strict=True)])
    with torch.no_grad():
        posterior = model.vae.encode(render(scenes, glyphs) * 2 - 1).latent_dist
        latents = posterior.mean * model.vae.config.scaling_factor
    t = ((torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) * 1000 / BATCH).long()
    noise = torch.randn(latents.shape, generator=generator)
    text = model.text_encoder(ids)
    predicted = model.unet(model.schedule.add_noise(latents, noise, t), t, text.last_hidden_state).sample
    plain = ~without_caption & (scenes.badge == NO_BADGE)
    view = torch.randint(bank.shape[2], (BATCH,), generator=generator)
    targets = bank[scenes.glyph, scenes.style, view][plain]
    contrast = contrastive_loss(
        model.projection(text.pooler_output[plain]), targets, scenes.glyph[plain], model.log_scale
    )
    return mse_loss(predicted, noise), contrast


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate as a share of `RATE`: warm-up, constant, then linear to 0."""
    flat = FLAT * steps
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps - flat))


def train(model: Model, glyphs: Glyphs, bank: Tensor, folder: Path, steps: int) -> Model:
    """Train UNet, text encoder and projection, and return the running average of the weights."""
    averaged = copy.deepcopy(model)
    parameters = [*model.trained().parameters(), model.log_scale]
    optimizer = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.99), weight_decay=1e-2)
    checkpoint = folder / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.trained().load_state_dict(state["model"])
        averaged.trained().load_state_dict(state["averaged"])
        model.log_scale.data.copy_(state["log_scale"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    errors, contrasts, began = [], [], time.monotonic()
    for step in range(start, steps):
        generator = torch.Generator().manual_seed(1_000_000 + step)
        error, contrast = losses(model, glyphs, bank, generator)
        optimizer.param_groups[0]["lr"] = RATE * rate_at(step, steps)
        optimizer.zero_grad()
        (error + CONTRAST * contrast).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 10))
        with torch.no_grad():
            for a, p in zip(averaged.trained().parameters(), model.trained().parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        errors.append(error.item())
        contrasts.append(contrast.item())
        if (step + 1) % 100 == 0:
            means = [sum(values[-100:]) / len(values[-100:]) for values in (errors, contrasts)]
            pace = (step + 1 - start) / (time.monotonic() - began)
            logger.info("step=%d of=%d error=%.4f contrast=%.3f steps_a_second=%.2f", step + 1, steps, *means, pace)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            state = {
                "step": step + 1,
                "model": model.trained().state_dict(),
                "averaged": averaged.trained().state_dict(),
                "log_scale": model.log_scale.detach(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)
            save(averaged, folder / "model")
    return averaged


def save(model: Model, folder: Path) -> None:
    """Save the model in diffusers' layout and half precision."""
    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(model.vae).half(),
        text_encoder=copy.deepcopy(model.text_encoder).half(),
        tokenizer=model.tokenizer,
        unet=copy.deepcopy(model.unet).half(),
        scheduler=model.schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    weight = model.projection.weight.detach().half().contiguous()
    save_file({"text_projection.weight": weight}, folder / "text_projection.safetensors")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=12_000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    glyphs = load_glyphs()
    sample = draw_training_scenes(glyphs, 4000, generator)
    tokenizer = train_tokenizer(describe(sample, glyphs.names, generator=generator))
    bank_file = arguments.folder / "image_features.pt"
    if not bank_file.exists():
        torch.save(image_features(glyphs, views=2, generator=generator), bank_file)
    bank = torch.load(bank_file, weights_only=True)
    model = Model(
        tokenizer=tokenizer,
        text_encoder=networks.text_encoder(tokenizer),
        projection=nn.Linear(networks.WIDTH, bank.shape[-1], bias=False),
        log_scale=nn.Parameter(torch.tensor(2.3)),
        vae=vae.build(render(sample, glyphs)[:2048] * 2 - 1),
        unet=networks.unet(),
        schedule=networks.schedule(),
    )
    decoder_file = arguments.folder / "decoder.pt"
    if not decoder_file.exists():
        train_decoder(model, glyphs, generator)
        torch.save(model.vae.state_dict(), decoder_file)
    model.vae.load_state_dict(torch.load(decoder_file, weights_only=True))
    model.vae.requires_grad_(False)
    train(model, glyphs, bank, arguments.folder, arguments.steps)


if __name__ == "__main__":
    main()
