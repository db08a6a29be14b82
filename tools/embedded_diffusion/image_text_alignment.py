"""Align captions with images: the embedded CLIP's image features of each emoji, and a contrastive loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torchvision.transforms.functional import to_pil_image

from fewshot.backbones import ClipSpec, load_clip
from fewshot.demo.scenes import Glyphs, draw_scenes, render
from fewshot.demo.write import STYLES

LARGE = 128
"""Side in pixels of the image tower's pictures."""


def image_features(glyphs: Glyphs, *, views: int, generator: torch.Generator) -> Tensor:
    """Return image features [G, styles, views, D] float32, unit rows; each view has another background.

    Emoji that are held out have rows of zeros.
    """
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
    """Return InfoNCE in both directions; pairs of the same emoji are not negatives.

    Args:
        text: [B, D], of captions.
        image: [B, D], unit rows: of pictures of the same emoji.
        glyph: [B] int64, the emoji of each caption.
        log_scale: scalar.
    """
    logits = log_scale.exp() * normalize(text, dim=-1) @ image.T
    same = (glyph[:, None] == glyph[None]) & ~torch.eye(len(glyph), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(glyph))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
