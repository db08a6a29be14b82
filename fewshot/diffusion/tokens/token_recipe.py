"""Settings of token training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fewshot.diffusion.recipe_settings import LossTarget
from fewshot.diffusion.tokens.token_prompts import Pool

GammaSchedule = Literal["constant", "exponential"]


@dataclass(frozen=True, kw_only=True)
class TokenRecipe:
    """Settings of token training: each class's vector minimises alpha · L_rec + gamma · L_reg (see `token_training`).

    Attributes:
        word: a coarse word of one token for what the images show, from which the vector starts.
        steps: steps of AdamW, >= 0. Not set: with Stable Diffusion the published 3,100, an hour a class on a V100;
            with models of small pictures 100.
        images: images of each class in a step (b), >= 1. The papers accumulate 4.
        learning_rate: constant learning rate, > 0. Not set: with Stable Diffusion the published 2e-3; with models of
            small pictures 1e-2, with which 100 steps are as good as 300 with 2e-3 (`fewshot.methods.token_learning`).
        alpha: weight of the reconstruction, >= 0; with 0 the UNet never runs.
        gamma: weight of the regulariser at the start, >= 0; at 0 this is textual inversion.
        gamma_end: its weight at the end, > 0, if the schedule is exponential.
        gamma_schedule: "constant", or from gamma to gamma_end along gamma^(1 - t/T) gamma_end^(t/T).
        coupled: weight of the coupled loss (`token_training`), >= 0; above 0 all classes are learned in one block.
        scale: s of both softmaxes, > 0. Not the backbone's: CLIP's 100 would saturate it.
        pool: where the feature of a text is read, in training and afterwards: at its end token ("eos"), or at the
            token of the class, as the published code does ("placeholder").
        target: what the reconstruction compares: the "noise", or the "prediction" of the UNet, as diffusers does. They
            differ for models that predict velocity.
        classes: classes learned together, in forwards of `classes` · b rows; the last block is filled up with copies.
    """

    word: str = "picture"
    steps: int = 100
    images: int = 4
    learning_rate: float = 1e-2
    alpha: float = 1.0
    gamma: float = 1.0
    gamma_end: float = 0.1
    gamma_schedule: GammaSchedule = "constant"
    coupled: float = 0.0
    scale: float = 10.0
    pool: Pool = "eos"
    target: LossTarget = "noise"
    classes: int = 8

    def identity(self) -> dict[str, Any]:
        """Return all that determines the tokens, as JSON values; the target, which came later, unless it is noise."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("target", "noise")}

    def gamma_at(self, step: int) -> float:
        """Return the regulariser's weight at a step in [0, steps); 0 stays 0."""
        if self.gamma_schedule == "constant" or not self.gamma:
            return self.gamma
        done = step / self.steps
        return float(self.gamma ** (1.0 - done) * self.gamma_end**done)
