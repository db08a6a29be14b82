"""Textual inversion (arXiv 2208.01618) and MC-TI (arXiv 2410.22317): a vector for each class, many classes at once.

    H = text encoder of a prompt with V_k;  w = projection of H, pooled;  z a posterior sample of an image of class k
    L_k = alpha · mean (eps - eps_hat(z_t, t, H))^2 + gamma · L_reg(w)        everything but V_k is frozen

Losses are summed over classes and AdamW works element by element, so that each class takes the steps that it would take
alone: a mean would shrink its gradient by the number of classes. Random numbers come from (seed, the class's images,
step), and a forward always has as many rows, so that the bits do not depend on the classes in the block either.

Where we differ from the authors' code: images are cropped and not squeezed, and mirror images are in the bank of
features alone (as augmented views); a step averages b images instead of accumulating them; features and losses are
float32; the vector is put in after the lookup, so that the optimizer decays it and not the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewshot.diffusion.noise import noised
from fewshot.diffusion.tokens.losses import images_to_text, text_to_images
from fewshot.diffusion.tokens.token_prompts import TokenPrompts, encode, joint, start_vector
from fewshot.diffusion.tokens.token_recipe import TokenRecipe
from fewshot.diffusion.tokens.token_shots import Draw, TokenShots, draw

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone


def learn_tokens(
    backbone: DiffusionBackbone, shots: TokenShots, block: Sequence[int], recipe: TokenRecipe, *, seed: int
) -> Tensor:
    """Learn the vectors of some classes.

    Args:
        backbone: the model; in half precision, bf16: gradients are not scaled.
        shots: of all classes; the others' features are what a class is told apart from.
        block: G classes in [0, C).
        recipe: how.
        seed: of everything random.

    Returns:
        [G, width] float32 on the CPU.

    Raises:
        DataError: the word is not one token, or the model has no projection and gamma or the coupled loss needs it.
    """
    prompts = TokenPrompts.from_templates(backbone, backbone.templates, recipe.word)
    filled = [*block, *[block[-1]] * (recipe.classes - len(block))]
    vectors = start_vector(backbone, recipe.word).repeat(len(filled), 1).to(backbone.device).requires_grad_()
    optimizer = torch.optim.AdamW([vectors], lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    with torch.enable_grad():
        for step in range(recipe.steps):
            drawn = draw(
                shots,
                filled,
                step=step,
                images=recipe.images,
                prompts=len(prompts),
                times=len(backbone.alphas_cumprod),
                seed=seed,
            )
            optimizer.zero_grad(set_to_none=True)
            losses = token_losses(backbone, prompts, vectors, drawn, shots.bank, recipe, gamma=recipe.gamma_at(step))
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return vectors.detach().cpu()[: len(block)]


def token_losses(
    backbone: DiffusionBackbone,
    prompts: TokenPrompts,
    vectors: Tensor,
    drawn: Draw,
    bank: Tensor,
    recipe: TokenRecipe,
    *,
    gamma: float,
) -> Tensor:
    """The loss of each class, of which only terms with a weight are computed.

    Args:
        backbone: the model.
        prompts: that may be drawn.
        vectors: [G, width] float32.
        drawn: G · b rows, grouped by class.
        bank: [M, D] float32, unit rows.
        recipe: weights other than gamma's.
        gamma: of the regulariser, now.

    Returns:
        [G] float32, means over the class's b images.
    """
    G, b = len(vectors), len(drawn.prompts) // len(vectors)
    slots = prompts.slots[drawn.prompts]
    rows = vectors[:, None].expand(G, b, -1).flatten(0, 1)
    hidden = encode(backbone, prompts.ids[drawn.prompts], slots, rows)
    losses = hidden.new_zeros(G, b)
    if recipe.alpha:
        losses = losses + recipe.alpha * reconstruction(backbone, hidden, drawn).view(G, b)
    if gamma or recipe.coupled:
        texts = joint(backbone, hidden, slots, pool=recipe.pool)
        bank, chosen, targets = (part.to(backbone.device) for part in (bank, drawn.chosen, drawn.targets))
    if gamma:
        losses = losses + gamma * text_to_images(texts, bank, chosen, targets, scale=recipe.scale).view(G, b)
    if recipe.coupled:
        own = bank[chosen.gather(1, targets[:, None])[:, 0]]
        losses = losses + recipe.coupled * images_to_text(texts.view(G, b, -1), own.view(G, b, -1), scale=recipe.scale)
    return losses.mean(dim=1)


def reconstruction(backbone: DiffusionBackbone, hidden: Tensor, drawn: Draw) -> Tensor:
    """L_rec: [B] float32 of contexts [B, L, width] and B rows drawn."""
    latents, noise = drawn.latents.to(backbone.device), drawn.noise.to(backbone.device)
    predicted = backbone.predict(noised(latents, noise, drawn.steps, backbone.alphas_cumprod), drawn.steps, hidden)
    return (noise - predicted).square().mean(dim=(1, 2, 3))
