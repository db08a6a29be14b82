"""Pictures with two attributes: a demo emoji in the middle of a coloured background, and on some a small badge.

The background and the large emoji are prominent, the badge is small; an experiment decides which of them defines the
class. The embedded diffusion model is trained on such pictures (`tools/embedded_diffusion`), and the experiments about
nuanced attributes use others, with emoji that are not in its training set (`Glyphs.held_out`).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from fewshot.demo.write import STYLES, demo_classes, demo_pictures

COLOURS = {
    "red": (0.80, 0.22, 0.20),
    "orange": (0.93, 0.58, 0.20),
    "yellow": (0.95, 0.86, 0.35),
    "green": (0.30, 0.65, 0.35),
    "blue": (0.25, 0.45, 0.80),
    "purple": (0.55, 0.35, 0.70),
    "white": (0.95, 0.95, 0.95),
    "black": (0.12, 0.12, 0.14),
}
"""Background colours in [0, 1]."""
PATTERNS = ("plain", "striped")
NO_BADGE = -1
"""Value of `Scenes.badge` for scenes without a badge."""
HELD_OUT_EVERY = 6
"""Every sixth class of the demo, 47 of 285, is left out of the training of the embedded diffusion model."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The emoji of the demo, without their background.

    Attributes:
        names: of the G classes.
        rgba: [G, 3, 4, 64, 64] float32 in [0, 1]: each in three styles, with colours premultiplied by opacity.
    """

    names: tuple[str, ...]
    rgba: Tensor

    @property
    def held_out(self) -> tuple[int, ...]:
        """Classes that the embedded diffusion model was not trained on."""
        return tuple(range(HELD_OUT_EVERY - 1, len(self.names), HELD_OUT_EVERY))

    @property
    def shown(self) -> tuple[int, ...]:
        """Classes that the embedded diffusion model was trained on."""
        return tuple(sorted(set(range(len(self.names))) - set(self.held_out)))


@dataclass(frozen=True, slots=True)
class Scenes:
    """Descriptions of N pictures. All tensors are [N].

    Attributes:
        glyph, style: int64, the index of the emoji and of its style.
        size, x, y: float32, width and centre of the emoji, in widths of the picture.
        badge: int64, the index of the small emoji in front, in the same style; `NO_BADGE` for none.
        badge_size, badge_x, badge_y: float32, width and centre of the badge.
        colour: int64 into `COLOURS`.
        pattern: int64 into `PATTERNS`.
        jitter: [N, 3] float32, added to the background's colour.
    """

    glyph: Tensor
    style: Tensor
    size: Tensor
    x: Tensor
    y: Tensor
    badge: Tensor
    badge_size: Tensor
    badge_x: Tensor
    badge_y: Tensor
    colour: Tensor
    pattern: Tensor
    jitter: Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.glyph)


def draw_scenes(glyph: Tensor, *, generator: torch.Generator, badge: Tensor | None = None) -> Scenes:
    """Draw all attributes but the emoji at random.

    Args:
        glyph: [N] int64, the emoji in the middle.
        generator: source of the random numbers.
        badge: [N] int64, the small emoji in front, `NO_BADGE` for none; None for no badges at all.
    """
    N = len(glyph)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(N, generator=generator)

    def one_of(count: int) -> Tensor:
        return torch.randint(count, (N,), generator=generator)

    return Scenes(
        glyph=glyph,
        style=one_of(len(STYLES)),
        size=between(0.62, 0.92),
        x=between(0.42, 0.58),
        y=between(0.42, 0.58),
        badge=torch.full((N,), NO_BADGE) if badge is None else badge,
        badge_size=between(0.38, 0.46),
        badge_x=between(0.24, 0.76),
        badge_y=between(0.70, 0.76),
        colour=one_of(len(COLOURS)),
        pattern=one_of(len(PATTERNS)),
        jitter=0.05 * torch.randn(N, 3, generator=generator),
    )


def with_colour(scenes: Scenes, colour: Tensor) -> Scenes:
    """Return the scenes with other background colours [N] int64."""
    return replace(scenes, colour=colour)


def render(scenes: Scenes, glyphs: Glyphs, *, side: int = 32) -> Tensor:
    """Render pictures.

    Returns:
        [N, 3, side, side] float32 in [0, 1].
    """
    large = 2 * side  # Rendered at twice the size and averaged, against jagged edges.
    picture = _backgrounds(scenes, large)
    picture = _paste(picture, glyphs.rgba[scenes.glyph, scenes.style], scenes.size, scenes.x, scenes.y)
    has_badge = scenes.badge != NO_BADGE
    if has_badge.any():
        small = glyphs.rgba[scenes.badge.clamp_min(0), scenes.style] * has_badge.view(-1, 1, 1, 1)
        picture = _paste(picture, small, scenes.badge_size, scenes.badge_x, scenes.badge_y)
    return avg_pool2d(picture, 2)


def _backgrounds(scenes: Scenes, side: int) -> Tensor:
    colours = torch.tensor(list(COLOURS.values()))[scenes.colour] + scenes.jitter
    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    stripes = ((x + y) * 4 % 1 < 0.5).float()
    shade = 1 - 0.3 * torch.stack([torch.zeros_like(x), stripes])[scenes.pattern]  # [N, side, side]
    return (colours.clamp(0, 1)[:, :, None, None] * shade[:, None]).clamp(0, 1)


def _paste(picture: Tensor, rgba: Tensor, size: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Paste emoji [N, 4, h, w] of width `size` onto pictures [N, 3, H, W], with their centres at (x, y)."""
    theta = torch.zeros(len(picture), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / size
    theta[:, 0, 2], theta[:, 1, 2] = (1 - 2 * x) / size, (1 - 2 * y) / size
    grid = affine_grid(theta, [len(picture), 4, *picture.shape[2:]], align_corners=False)
    placed = grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return placed[:, :3] + picture * (1 - placed[:, 3:])


@cache
def load_glyphs() -> Glyphs:
    """Load the 285 × 3 emoji of the demo and remove their white background."""
    classes = demo_classes()
    drawn = [demo_pictures(style) for style in STYLES]
    rgba = [[_cut_out(pictures[f"{row['code']}.webp"]) for pictures in drawn] for row in classes]
    return Glyphs(tuple(row["name"] for row in classes), torch.stack([torch.stack(styles) for styles in rgba]))


def _cut_out(data: bytes, *, white: int = 244) -> Tensor:
    """Return [4, 64, 64] float32: the picture without the white area that touches its border."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    outside = _connected_to_border(pixels.min(axis=2) >= white)
    opaque = torch.from_numpy(~outside).float()[None]
    return torch.cat([torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255 * opaque, opaque])


def _connected_to_border(mask: np.ndarray) -> np.ndarray:
    """Return the true pixels of [H, W] that are connected to the border by true pixels."""
    H, W = mask.shape
    reached = np.zeros_like(mask)
    todo = deque((y, x) for y in range(H) for x in range(W) if mask[y, x] and (y in (0, H - 1) or x in (0, W - 1)))
    while todo:
        y, x = todo.popleft()
        if reached[y, x]:
            continue
        reached[y, x] = True
        around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        todo.extend((a, b) for a, b in around if 0 <= a < H and 0 <= b < W and mask[a, b] and not reached[a, b])
    return reached


def describe(scenes: Scenes, names: Sequence[str], *, generator: torch.Generator) -> list[str]:
    """Return a caption for each scene, in one of four wordings, two of which leave the background out."""
    colours = tuple(COLOURS)
    wording = torch.randint(4, (len(scenes),), generator=generator).tolist()
    rows = zip(*(t.tolist() for t in (scenes.glyph, scenes.badge, scenes.colour, scenes.pattern)), wording, strict=True)
    return [_caption(names, colours, *row) for row in rows]


def _caption(
    names: Sequence[str], colours: Sequence[str], glyph: int, badge: int, colour: int, pattern: int, wording: int
) -> str:
    subject = names[glyph] if badge == NO_BADGE else f"{names[glyph]} with a small {names[badge]}"
    kind = "" if pattern == 0 else f"{PATTERNS[pattern]} "
    match wording:
        case 0:
            return f"a picture of a {subject} on a {kind}{colours[colour]} background"
        case 1:
            return f"a {subject} on {colours[colour]}"
        case 2:
            return f"a picture of a {subject}"
        case _:
            return f"a {subject}"
