"""Learned tokens of classes: textual inversion and MC-TI."""

from fewshot.diffusion.tokens.token_blocks import (
    LearnedTokens,
    block_key,
    class_blocks,
    learn_block,
    learn_tokens,
    make_token_classifier,
    require_diffusion,
)
from fewshot.diffusion.tokens.token_classifier import Calibration, TokenClassifier, token_rows
from fewshot.diffusion.tokens.token_files import merged_tokens, placeholder, token_file
from fewshot.diffusion.tokens.token_prompts import Pool, TokenPrompts
from fewshot.diffusion.tokens.token_recipe import GammaSchedule, TokenRecipe
from fewshot.diffusion.tokens.token_selection import TokenPoint, choose_point
from fewshot.diffusion.tokens.token_shots import TokenShots
from fewshot.diffusion.tokens.token_training import train_tokens

__all__ = [
    "Calibration",
    "GammaSchedule",
    "LearnedTokens",
    "Pool",
    "TokenClassifier",
    "TokenPoint",
    "TokenPrompts",
    "TokenRecipe",
    "TokenShots",
    "block_key",
    "choose_point",
    "class_blocks",
    "learn_block",
    "learn_tokens",
    "make_token_classifier",
    "merged_tokens",
    "placeholder",
    "require_diffusion",
    "token_file",
    "token_rows",
    "train_tokens",
]
