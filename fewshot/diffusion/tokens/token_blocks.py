"""Train the tokens of a problem in blocks of classes, each block at most once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.diffusion.tokens.token_classifier import Calibration, TokenClassifier, class_offsets, token_rows
from fewshot.diffusion.tokens.token_prompts import start_vector
from fewshot.diffusion.tokens.token_recipe import TokenRecipe
from fewshot.diffusion.tokens.token_shots import TokenShots
from fewshot.diffusion.tokens.token_training import train_tokens
from fewshot.errors import DataError
from fewshot.optimization.training_cache import TrainingCache
from fewshot.problem import Problem
from fewshot.prompt_learning import class_means_of

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone


@dataclass(frozen=True, slots=True)
class LearnedTokens:
    """The learned tokens of K classes.

    Attributes:
        tokens: [K, width] float32; 0 for a class without shots.
        rows: [K, D] float32, unit rows; 0 for a class without shots.
    """

    tokens: Tensor
    rows: Tensor


def learn_tokens(problem: Problem, recipe: TokenRecipe, *, seed: int, training_cache: TrainingCache) -> LearnedTokens:
    """Train tokens and text rows of all classes that have shots. No class name is read.

    Args:
        problem: with a diffusion model and latents.
        recipe: settings of the training.
        seed: of the training.
        training_cache: used block by block. A block's key covers the images of its classes, the features of all and the
            start; a cache that outlives a process must separate diffusion models.

    Raises:
        DataError: the problem has no latents or no model, or the features are not in the space of the model's CLIP.
    """
    backbone = require_diffusion(problem)
    shots = TokenShots.from_problem(problem)
    parts = [
        learn_block(backbone, shots, block, recipe, seed=seed, training_cache=training_cache)
        for block in class_blocks(shots, recipe)
    ]
    width, D, K = backbone.text_encoder.config.hidden_size, problem.class_embeddings.shape[1], problem.num_classes
    tokens, rows = torch.zeros(K, width), torch.zeros(K, D)
    if parts:
        tokens[shots.classes] = torch.cat(parts)
        rows[shots.classes] = token_rows(backbone, torch.cat(parts), word=recipe.word, pool=recipe.pool)
    return LearnedTokens(tokens, rows)


def class_blocks(shots: TokenShots, recipe: TokenRecipe) -> list[list[int]]:
    """Split the classes in [0, C) into blocks that are trained together; with the coupled loss, a single one."""
    size = max(1, len(shots)) if recipe.coupled else recipe.classes
    return [list(range(start, min(start + size, len(shots)))) for start in range(0, len(shots), size)]


def learn_block(
    backbone: DiffusionBackbone,
    shots: TokenShots,
    block: list[int],
    recipe: TokenRecipe,
    *,
    seed: int,
    training_cache: TrainingCache,
) -> Tensor:
    """Return the tokens of a block, [G, width] float32, from the training cache or from `train_tokens`."""
    key = block_key(backbone, shots, block, recipe, seed=seed)
    return training_cache(key, lambda: {"tokens": train_tokens(backbone, shots, block, recipe, seed=seed)})["tokens"]


def block_key(
    backbone: DiffusionBackbone, shots: TokenShots, block: list[int], recipe: TokenRecipe, *, seed: int
) -> str:
    """Return a cache key of a block's training, which covers all that the vectors depend on but the frozen networks.

    Where images are only reconstructed, other classes do not matter, and new ones leave the key as it is.
    """
    contrasted = [shots.bank_key, shots.counts.tolist(), block] if recipe.gamma or recipe.coupled else None
    settings = [seed, [shots.keys[c] for c in block], contrasted, recipe.identity(), backbone.templates]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    digest.update(start_vector(backbone, recipe.word).numpy().tobytes())
    return f"tokens-{digest.hexdigest()}"


def make_token_classifier(
    problem: Problem, learned: LearnedTokens, *, calibration: Calibration, image_weight: float
) -> TokenClassifier:
    """Build the classifier: rows norm(text row + image_weight · class mean), calibrated (see `token_classifier`).

    Args:
        problem: the shots, for the class means.
        learned: tokens of the same problem.
        calibration: of the rows.
        image_weight: >= 0; 0 is the published classifier.
    """
    means, known = class_means_of(problem), problem.counts > 0
    rows = normalize(learned.rows + image_weight * means, dim=1) if image_weight else learned.rows
    offsets = class_offsets(rows, means, known, calibration=calibration)
    return TokenClassifier(rows, offsets, learned.tokens, problem.logit_scale)


def require_diffusion(problem: Problem) -> DiffusionBackbone:
    """Return the problem's diffusion model.

    Raises:
        DataError: there is none, or its CLIP has another feature space.
    """
    backbone, D = problem.diffusion, problem.class_embeddings.shape[1]
    if backbone is None:
        raise DataError("this method trains tokens of a diffusion model, but the problem has none")
    if backbone.projection is not None and len(backbone.projection) != D:
        raise DataError(
            f"the diffusion model's texts have {len(backbone.projection)} dimensions but the image features {D}: they "
            "are of different CLIPs. Use the embedded diffusion model with the embedded CLIP, SD 1.x with ViT-L-14 "
            "(openai); SD 2.x fits no CLIP, as it reads its text encoder one layer before the last."
        )
    return backbone
