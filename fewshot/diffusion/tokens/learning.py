"""Tokens of a problem, in blocks of classes that are trained at most once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fewshot.diffusion.tokens.token_prompts import start_vector
from fewshot.diffusion.tokens.token_recipe import TokenRecipe
from fewshot.diffusion.tokens.token_rows import Calibration, TokenClassifier, offsets_for, token_rows
from fewshot.diffusion.tokens.token_shots import TokenShots
from fewshot.diffusion.tokens.token_training import learn_tokens
from fewshot.errors import DataError
from fewshot.optimization.training_cache import TrainingCache
from fewshot.problem import Problem
from fewshot.prompt_learning import class_means_of

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of K classes.

    Attributes:
        tokens: [K, width] float32; 0 for a class without shots.
        rows: [K, D] float32, unit rows; 0 for a class without shots.
    """

    tokens: Tensor
    rows: Tensor


def learn(problem: Problem, recipe: TokenRecipe, *, seed: int, training_cache: TrainingCache) -> Learned:
    """Tokens and text rows of all classes that have shots. No class name is read.

    Args:
        problem: with a diffusion model and latents.
        recipe: how.
        seed: of the training.
        training_cache: is asked block by block. A block's key covers the images of its classes, the features of all and
            the start; a memo that outlives a process keeps diffusion models apart.

    Raises:
        DataError: the problem comes without latents or model, or the model and the features do not go together.
    """
    backbone = diffusion_of(problem)
    shots = TokenShots.from_problem(problem)
    parts = [
        learned_block(backbone, shots, block, recipe, seed=seed, training_cache=training_cache)
        for block in blocks(shots, recipe)
    ]
    width, D, K = backbone.text_encoder.config.hidden_size, problem.class_embeddings.shape[1], problem.num_classes
    tokens, rows = torch.zeros(K, width), torch.zeros(K, D)
    if parts:
        tokens[shots.classes] = torch.cat(parts)
        rows[shots.classes] = token_rows(backbone, torch.cat(parts), word=recipe.word, pool=recipe.pool)
    return Learned(tokens, rows)


def blocks(shots: TokenShots, recipe: TokenRecipe) -> list[list[int]]:
    """The classes in [0, C) that are learned together; with the coupled loss, all."""
    size = max(1, len(shots)) if recipe.coupled else recipe.classes
    return [list(range(start, min(start + size, len(shots)))) for start in range(0, len(shots), size)]


def learned_block(
    backbone: DiffusionBackbone,
    shots: TokenShots,
    block: list[int],
    recipe: TokenRecipe,
    *,
    seed: int,
    training_cache: TrainingCache,
) -> Tensor:
    """[G, width] float32: `learn_tokens`, through the memo."""
    key = block_key(backbone, shots, block, recipe, seed=seed)
    return training_cache(key, lambda: {"tokens": learn_tokens(backbone, shots, block, recipe, seed=seed)})["tokens"]


def block_key(
    backbone: DiffusionBackbone, shots: TokenShots, block: list[int], recipe: TokenRecipe, *, seed: int
) -> str:
    """A name for a block's training that covers all that the vectors depend on, but for the frozen networks.

    Where images are only reconstructed, other classes play no part, and new ones leave the name as it is.
    """
    told_apart = [shots.bank_key, shots.counts.tolist(), block] if recipe.gamma or recipe.coupled else None
    settings = [seed, [shots.keys[c] for c in block], told_apart, asdict(recipe), backbone.templates]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    digest.update(start_vector(backbone, recipe.word).numpy().tobytes())
    return f"tokens-{digest.hexdigest()}"


def classifier_of(
    problem: Problem, learned: Learned, *, calibration: Calibration, image_weight: float
) -> TokenClassifier:
    """The classifier: rows norm(text row + image_weight · class mean), calibrated (see `tokens.rows`).

    Args:
        problem: whose shots the means are of.
        learned: from it.
        calibration: of the rows.
        image_weight: >= 0; 0 is the published classifier.
    """
    means, known = class_means_of(problem), problem.counts > 0
    rows = normalize(learned.rows + image_weight * means, dim=1) if image_weight else learned.rows
    offsets = offsets_for(rows, means, known, calibration=calibration)
    return TokenClassifier(rows, offsets, learned.tokens, problem.logit_scale)


def diffusion_of(problem: Problem) -> DiffusionBackbone:
    """The problem's diffusion model.

    Raises:
        DataError: it has none, or one that does not go with the features.
    """
    backbone, D = problem.diffusion, problem.class_embeddings.shape[1]
    if backbone is None:
        raise DataError("this method learns tokens of a diffusion model, but the problem comes without one")
    if backbone.projection is not None and len(backbone.projection) != D:
        raise DataError(
            f"the diffusion model's texts have {len(backbone.projection)} dimensions and the image features {D}: they "
            "are of different CLIPs. The embedded diffusion model goes with the embedded CLIP, SD 1.x with ViT-L-14 "
            "(openai); SD 2.x with none, as it reads its text encoder one layer before the last."
        )
    return backbone
