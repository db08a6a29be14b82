"""Frozen text-to-image models. Importing this package loads no torch; `load_diffusion` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec

if TYPE_CHECKING:
    from fewshot.backbones.diffusion.diffusion_backbone import DiffusionBackbone
    from fewshot.backbones.diffusion.diffusion_loading import latent_shape

__all__ = ["DiffusionBackbone", "DiffusionSpec", "latent_shape", "load_diffusion"]


def __getattr__(name: str) -> Any:
    if name == "load_diffusion":
        from fewshot.backbones.diffusion.diffusion_loading import load_diffusion

        return load_diffusion
    if name == "latent_shape":
        from fewshot.backbones.diffusion.diffusion_loading import latent_shape

        return latent_shape
    if name == "DiffusionBackbone":
        from fewshot.backbones.diffusion.diffusion_backbone import DiffusionBackbone

        return DiffusionBackbone
    raise AttributeError(name)
