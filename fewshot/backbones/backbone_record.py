"""What a backbone is and can do, as plain values. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRecord:
    """A backbone's record. Equal weights and settings have equal records.

    Attributes:
        image_dim: D, the size of a feature.
        has_text: whether texts can be embedded. Without, only methods that use no class names work
            (`MethodInfo.uses_text`); `ClipSpec.has_text` knows this before anything is loaded.
        logit_scale: by which cosines are multiplied to be logits, > 0.
        logit_bias: what the model adds to each logit (SigLIP); None for others. It moves the logits of all classes
            alike, so no probability depends on it.
        preprocessing: digest of what becomes of an image before it reaches the model. Equal ones give equal pixels.
        licence: of the weights, as they state it; None if they do not.
        weights: digest of what identifies the weights, see `ClipSpec.identity`; None for a model made elsewhere.
    """

    image_dim: int
    has_text: bool
    logit_scale: float
    logit_bias: float | None
    preprocessing: str
    licence: str | None
    weights: str | None
