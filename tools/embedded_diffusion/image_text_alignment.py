"""The joint space: the embedded CLIP's image features of each emoji, and a loss that brings captions there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torchvision.transforms.functional import to_pil_image

from fewshot.backbones import ClipSpec, load_clip
from fewshot.demo.scenes import Glyphs, draw_scenes, render
from fewshot.demo.write import STYLES

LARGE = 128
"""Side in pixels at which the image tower is shown an emoji."""


def image_features(glyphs: Glyphs, *, views: int, generator: torch.Generator) -> Tensor:
    """[G, styles, views, D] float32, unit rows; each view on another background. Emoji held out are zero rows."""
    clip = load_clip(ClipSpec())
    shown, S = torch.tensor(glyphs.shown), len(STYLES)
    scenes = draw_scenes(shown.repeat_interleave(S * views), generator=generator)
    scenes.style.copy_(torch.arange(S).repeat_interleave(views).repeat(len(shown)))
    pictures = [clip.crop(to_pil_image(picture)) for picture in render(scenes, glyphs, side=LARGE)]
    features = normalize(clip.embed_images(torch.stack(pictures)), dim=-1)
    bank = features.new_zeros(len(glyphs.names), S, views, features.shape[-1])
    bank[shown] = features.view(len(shown), S, views, -1)
    return bank


def contrastive_loss(text: Tensor, image: Tensor, glyph: Tensor, log_scale: Tensor) -> Tensor:
    """InfoNCE in both directions; pairs of the same emoji are no negatives.

    Args:
        text: [B, D], of captions.
        image: [B, D], unit rows: of pictures of the same emoji.
        glyph: [B] int64, which emoji.
        log_scale: scalar.
    """
    logits = log_scale.exp() * normalize(text, dim=-1) @ image.T
    same = (glyph[:, None] == glyph[None]) & ~torch.eye(len(glyph), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(glyph))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
