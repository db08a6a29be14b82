"""The examples behind label sets as a sealed safetensors file: what ranks them, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Sequence

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fewshot.conformal.adaptation import ConformalExamples
from fewshot.digests import PLACEHOLDER, check_seal, seal
from fewshot.errors import DataError

ABOUT = "about"
"""Key of the file's metadata: the names of the classes and the digest, as JSON."""
TENSORS = ("features", "labels", "text", "logit_scale")


def save_examples(examples: ConformalExamples, classes: Sequence[str]) -> bytes:
    """Return the file. Equal examples give equal bytes.

    Args:
        examples: N examples of K classes.
        classes: K names, in label order.
    """
    tensors = {name: getattr(examples, name).contiguous() for name in TENSORS[:3]}
    tensors["logit_scale"] = torch.tensor(examples.logit_scale, dtype=torch.float64)
    about = json.dumps({"classes": list(classes), "digest": PLACEHOLDER})
    return seal(safetensors.torch.save(tensors, {ABOUT: about}))


def load_examples(data: bytes, classes: Sequence[str]) -> ConformalExamples:
    """Read what `save_examples` returned.

    Args:
        data: content of the file.
        classes: K names that the examples must be of, in label order.

    Raises:
        DataError: the file is damaged, or of other classes.
    """
    check_seal(data)
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise DataError(f"it is no safetensors file: {error}") from error
    if _classes(data) != list(classes):
        raise DataError("its examples are of other classes")
    _check_shapes(tensors, len(classes))
    features, labels, text, logit_scale = (tensors[name] for name in TENSORS)
    return ConformalExamples(features, labels, text, float(logit_scale))


def _classes(data: bytes) -> list[str] | None:
    """The names in the metadata of a file that is whole."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: list[str] | None = json.loads(header.get("__metadata__", {}).get(ABOUT, "{}")).get("classes")
    return found


def _check_shapes(tensors: dict[str, Tensor], classes: int) -> None:
    """Raise DataError unless the tensors are those of examples of so many classes."""
    if set(tensors) != set(TENSORS):
        raise DataError(f"expected the tensors {', '.join(TENSORS)}, got {', '.join(sorted(tensors))}")
    features, labels, text, logit_scale = (tensors[name] for name in TENSORS)
    N, D = features.shape if features.ndim == 2 else (-1, -1)
    if labels.shape != (N,) or text.shape != (classes, D) or logit_scale.shape != ():
        raise DataError("expected features [N, D], labels [N] and text [K, D]")
    if any(tensor.dtype != torch.float64 for tensor in (features, text, logit_scale)) or labels.dtype != torch.int64:
        raise DataError("expected float64 features and text, and int64 labels")
    if N and not (0 <= int(labels.min()) and int(labels.max()) < classes):
        raise DataError(f"expected labels in [0, {classes})")
