"""Learned tokens: textual inversion and MC-TI."""

from fewshot.diffusion.tokens.token_blocks import Learned, block_key, blocks, classifier_of, learn, learned_block
from fewshot.diffusion.tokens.token_classifier import Calibration, TokenClassifier, token_rows
from fewshot.diffusion.tokens.token_files import merged_tokens, placeholder, token_file
from fewshot.diffusion.tokens.token_prompts import Pool, TokenPrompts
from fewshot.diffusion.tokens.token_recipe import GammaSchedule, TokenRecipe
from fewshot.diffusion.tokens.token_selection import TokenPoint, choose_point
from fewshot.diffusion.tokens.token_shots import TokenShots
from fewshot.diffusion.tokens.token_training import learn_tokens

__all__ = [
    "Calibration",
    "GammaSchedule",
    "Learned",
    "Pool",
    "TokenClassifier",
    "TokenPoint",
    "TokenPrompts",
    "TokenRecipe",
    "TokenShots",
    "block_key",
    "blocks",
    "choose_point",
    "classifier_of",
    "learn",
    "learn_tokens",
    "learned_block",
    "merged_tokens",
    "placeholder",
    "token_file",
    "token_rows",
]
