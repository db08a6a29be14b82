"""Textual inversion (arXiv 2208.01618) and MC-TI (arXiv 2410.22317): a vector for each class, many classes at once.

    H = text encoder of a prompt with V_k;  w = projection of H, pooled;  z a posterior sample of an image of class k
    L_k = alpha · mean (eps - eps_hat(z_t, t, H))^2 + gamma · L_reg(w)        everything but V_k is frozen
    L_reg = -log softmax_c( s · cos(w_k, f_c) )[k]      w_k a text of class k, f_c one image of every class c

The softmax of L_reg goes over images: no other class's text takes part, so that a class can be trained alone, and the
result does not change if all similarities of a text shift together. Inference compares texts. The optional coupled loss
is the other direction, over the texts of all classes, and is not in the paper.

Losses are summed over classes and AdamW works element by element, so that each class takes the steps that it would take
alone: a mean would shrink its gradient by the number of classes. Random numbers derive from (seed, the class's images,
step), and a forward always has the same number of rows, so that the bits do not depend on the other classes of a block.

Where we differ from the authors' code: images are cropped and not squeezed, and mirror images are in the bank of
features alone (as augmented views); a step averages b images instead of accumulating them; features and losses are
float32; the vector is inserted after the lookup, so that the optimizer decays it and not the whole table. For models
that predict velocity the reconstruction compares the noise, unless `target` is "prediction".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fewshot.backbones.diffusion.noise_schedule import add_noise
from fewshot.diffusion.recipe_settings import LossTarget, loss_weights
from fewshot.diffusion.tokens.token_prompts import TokenPrompts, encode_with_vectors, project_texts, start_vector
from fewshot.diffusion.tokens.token_recipe import TokenRecipe
from fewshot.diffusion.tokens.token_shots import TokenSamples, TokenShots, draw_token_samples

if TYPE_CHECKING:
    from fewshot.backbones.diffusion import DiffusionBackbone


def train_tokens(
    backbone: DiffusionBackbone, shots: TokenShots, block: Sequence[int], recipe: TokenRecipe, *, seed: int
) -> Tensor:
    """Train the vectors of some classes.

    Args:
        backbone: the model; of half precisions only bf16, as gradients are not scaled.
        shots: of all classes; a class is contrasted with the features of the others.
        block: G classes in [0, C).
        recipe: settings of the training.
        seed: of all random numbers.

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
            samples = draw_token_samples(
                shots,
                filled,
                step=step,
                images=recipe.images,
                prompts=len(prompts),
                times=len(backbone.alphas_cumprod),
                seed=seed,
            )
            optimizer.zero_grad(set_to_none=True)
            losses = token_losses(backbone, prompts, vectors, samples, shots.bank, recipe, gamma=recipe.gamma_at(step))
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return vectors.detach().cpu()[: len(block)]


def token_losses(
    backbone: DiffusionBackbone,
    prompts: TokenPrompts,
    vectors: Tensor,
    samples: TokenSamples,
    bank: Tensor,
    recipe: TokenRecipe,
    *,
    gamma: float,
) -> Tensor:
    """Return the loss of each class; terms of weight 0 are not computed.

    Args:
        backbone: the model.
        prompts: the prompts that samples refer to.
        vectors: [G, width] float32.
        samples: G · b rows, grouped by class.
        bank: [M, D] float32, unit rows.
        recipe: weights of the other terms.
        gamma: weight of the regulariser at this step.

    Returns:
        [G] float32, the mean over each class's b images.
    """
    G, b = len(vectors), len(samples.prompts) // len(vectors)
    slots = prompts.slots[samples.prompts]
    rows = vectors[:, None].expand(G, b, -1).flatten(0, 1)
    hidden = encode_with_vectors(backbone, prompts.ids[samples.prompts], slots, rows)
    losses = hidden.new_zeros(G, b)
    if recipe.alpha:
        losses = losses + recipe.alpha * reconstruction_loss(backbone, hidden, samples, recipe.target).view(G, b)
    if gamma or recipe.coupled:
        texts = project_texts(backbone, hidden, slots, pool=recipe.pool)
        bank, chosen, targets = (part.to(backbone.device) for part in (bank, samples.chosen, samples.targets))
    if gamma:
        losses = losses + gamma * text_to_images_loss(texts, bank, chosen, targets, scale=recipe.scale).view(G, b)
    if recipe.coupled:
        own = bank[chosen.gather(1, targets[:, None])[:, 0]]
        coupled = images_to_text_loss(texts.view(G, b, -1), own.view(G, b, -1), scale=recipe.scale)
        losses = losses + recipe.coupled * coupled
    return losses.mean(dim=1)


def reconstruction_loss(
    backbone: DiffusionBackbone, hidden: Tensor, samples: TokenSamples, target: LossTarget = "noise"
) -> Tensor:
    """Return L_rec, [B] float32, of contexts [B, L, width] and B samples."""
    latents, noise = samples.latents.to(backbone.device), samples.noise.to(backbone.device)
    noisy = add_noise(latents, noise, samples.steps, backbone.alphas_cumprod)
    predicted = backbone.predict(noisy, samples.steps, hidden)
    return (noise - predicted).square().mean(dim=(1, 2, 3)) * loss_weights(backbone, samples.steps, target)


def text_to_images_loss(texts: Tensor, bank: Tensor, chosen: Tensor, targets: Tensor, *, scale: float) -> Tensor:
    """Return L_reg.

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


def images_to_text_loss(texts: Tensor, images: Tensor, *, scale: float) -> Tensor:
    """Return the coupled loss.

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
