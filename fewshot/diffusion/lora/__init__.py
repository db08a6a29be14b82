"""Low-rank adapters of many classes on one frozen diffusion model."""

from fewshot.diffusion.lora.adapter_files import (
    ADAPTER_FILES,
    UNET_FILES,
    load_adapters,
    load_unet_adapters,
    pipeline_file,
    save_adapter,
)
from fewshot.diffusion.lora.injection import SetClasses, adapted_layers, injected
from fewshot.diffusion.lora.merging import merged
from fewshot.diffusion.lora.sites import BlockFilter, block_filter_for, sites, unet_sites
from fewshot.diffusion.lora.stacked_lora import (
    LoraPair,
    Pairs,
    StackedLora,
    concatenated,
    concatenated_pairs,
    initial_pairs,
    with_all_sites,
)

__all__ = [
    "ADAPTER_FILES",
    "UNET_FILES",
    "BlockFilter",
    "LoraPair",
    "Pairs",
    "SetClasses",
    "StackedLora",
    "adapted_layers",
    "block_filter_for",
    "concatenated",
    "concatenated_pairs",
    "initial_pairs",
    "injected",
    "load_adapters",
    "load_unet_adapters",
    "merged",
    "pipeline_file",
    "save_adapter",
    "sites",
    "unet_sites",
    "with_all_sites",
]
