"""Draw samples of the trained model as a picture for the documentation.

    python -m tools.embedded_diffusion.samples FOLDER PICTURE.png [--guidance 3]

The rows are eight emoji of the training, each on a background that the caption names; the same emoji with a badge; and
emoji kept from the training. One seed, nothing chosen by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from fewshot.demo.scenes import COLOURS, load_glyphs

STEPS = 50
ENLARGED = 3


def captions() -> list[str]:
    """Return the captions of three rows of eight."""
    glyphs = load_glyphs()
    shown, unseen = (
        [glyphs.names[i] for i in indices][::step][:8] for indices, step in ((glyphs.shown, 29), (glyphs.held_out, 5))
    )
    backgrounds = list(COLOURS)
    plain = [f"a picture of a {name} on a {colour} background" for name, colour in zip(shown, backgrounds, strict=True)]
    badges = [f"a picture of a {name} with a small {badge}" for name, badge in zip(shown, shown[::-1], strict=True)]
    return [*plain, *badges, *(f"a picture of a {name}" for name in unseen)]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--guidance", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.folder, dtype=torch.float32, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    images = pipeline(
        captions(),
        num_inference_steps=STEPS,
        guidance_scale=arguments.guidance,
        height=side,
        width=side,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    grid = to_pil_image(make_grid(images, nrow=8, padding=1))
    grid.resize((grid.width * ENLARGED, grid.height * ENLARGED), 0).save(arguments.picture)


if __name__ == "__main__":
    main()
