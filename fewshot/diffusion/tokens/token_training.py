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
from torch.nn.functional import cross_entropy, normalize

from fewshot.backbones.diffusion.noise_schedule import add_noise
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
    predicted = backbone.predict(add_noise(latents, noise, drawn.steps, backbone.alphas_cumprod), drawn.steps, hidden)
    return (noise - predicted).square().mean(dim=(1, 2, 3))


def text_to_images(texts: Tensor, bank: Tensor, chosen: Tensor, targets: Tensor, *, scale: float) -> Tensor:
    """L_reg.

    Args:
        texts: [B, D] float32, of any length.
        bank: [M, D] float32, unit rows: image features.
        chosen: [B, C] int64, for each text one row of the bank for each class.
        targets: [B] int64 in [0, C), the class of each text.
        scale: s > 0.

    Returns:
        [B] float32; ln C where all similarities are equal.
    """
    cosines = (normalize(texts, dim=1) @ bank.T).gather(1, chosen)
    return cross_entropy(scale * cosines, targets, reduction="none")


def images_to_text(texts: Tensor, images: Tensor, *, scale: float) -> Tensor:
    """The coupled loss.

    Args:
        texts: [C, b, D] float32, b texts of each class.
        images: [C, b, D] float32, unit rows: an image of each class for each of them.
        scale: s > 0.

    Returns:
        [C, b] float32: of image (c, j) among the texts (·, j).
    """
    C, b, _ = texts.shape
    logits = scale * torch.einsum("cjd,kjd->cjk", images, normalize(texts, dim=2))
    targets = torch.arange(C, device=texts.device)[:, None].expand(C, b)
    return cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(C, b)
