"""A calibrated classifier as two files: tensors in safetensors, everything else in a readable JSON card.

This module works on bytes, not on disk: the caller stores them. Equal classifiers give equal bytes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fewshot.calibration.calibrated_classifier import CalibratedClassifier, HeldOutReport
from fewshot.calibration.temperature import Scaling
from fewshot.digests import DigestError, check_digest, check_json, digest, seal_json
from fewshot.errors import DataError
from fewshot.inference.held_out_scores import NAMES, held_out_scores_from
from fewshot.method import Classifier
from fewshot.methods import METHODS, build_method
from fewshot.model_selection.candidates import CandidateResult

if TYPE_CHECKING:
    from fewshot.backbones.pooling import Pooling
    from fewshot.backbones.text_tower import TextTower

TENSORS = "classifier.safetensors"
CARD = "card.json"
FORMAT = 4
"""Version of the card's layout."""
DIGESTS = "files"
"""Key of a card: by name, the digests of the files beside it."""
SCALING = tuple(field.name for field in dataclasses.fields(Scaling))
"""Keys of the numbers of a `Scaling` in a card."""
PARTS = ("pooling", "text_tower")
"""Fields of a classifier that are parts of its backbone: not stored, but passed when it is loaded."""


def save_classifier(
    calibrated: CalibratedClassifier, card: Mapping[str, Any], others: Mapping[str, bytes] = MappingProxyType({})
) -> dict[str, bytes]:
    """Serialise a classifier.

    Args:
        calibrated: the classifier.
        card: further JSON values for the card (fingerprints, versions).
        others: further files beside the card, name to content, whose digests it is to hold.

    Returns:
        File name to content, without the others.

    Raises:
        DataError: `card` has a key of the classifier's own.
    """
    fields = _field_values(calibrated.classifier)
    tensors = {name: value.cpu().contiguous() for name, value in _tensors(fields).items()}
    tensors |= {name: torch.from_numpy(getattr(calibrated.held_out, field)) for field, name in NAMES.items()}
    data = safetensors.torch.save(tensors)
    facts = {
        "format": FORMAT,
        "method": calibrated.method.name,
        "hyperparameters": _field_values(calibrated.method),
        "classifier": {name: value for name, value in fields.items() if _is_plain(value)},
        "classes": list(calibrated.class_names),
        "logit_scale": calibrated.logit_scale,
        **dataclasses.asdict(calibrated.scaling),
        "threshold": calibrated.threshold,
        "held_out": dataclasses.asdict(calibrated.report),
        DIGESTS: {name: digest(content) for name, content in {TENSORS: data, **others}.items()},
    }
    if taken := sorted(facts.keys() & card.keys()):
        raise DataError(f"keys {', '.join(taken)} are set by the classifier; use other keys for further values")
    text = json.dumps(seal_json({**facts, **card}), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {TENSORS: data, CARD: (text + "\n").encode()}


def read_card(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the card of a stored classifier, with the further values of the caller.

    Raises:
        DataError: the card is missing, damaged or of another format version.
    """
    if CARD not in files:
        raise DataError(f"expected a file {CARD}, got {sorted(files)}")
    try:
        card = json.loads(files[CARD])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{CARD} is not JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise DataError(
            f"{CARD} must be a classifier card of format {FORMAT}, got {found!r:.80}; train the classifier again"
        )
    try:
        card = check_json(card)
    except DigestError as error:
        raise DataError(f"{CARD} is damaged: {error}") from error
    if not isinstance(card.get("method"), str):
        raise DataError(f"{CARD}: method must be a text, got {card.get('method')!r:.80}")
    return card


def load_classifier(
    files: Mapping[str, bytes], *, text_tower: TextTower | None = None, pooling: Pooling | None = None
) -> CalibratedClassifier:
    """Load a classifier on the CPU: the inverse of `save_classifier`, bit for bit.

    Args:
        files: file name to content; other files are ignored.
        text_tower: of the classifier's backbone, for methods that need it (`backbone_parts`).
        pooling: likewise.

    Raises:
        DataError: a file is missing, damaged, or does not fit the method; or a part of the backbone is missing.
        UnknownNameError: the method does not exist in this version.
    """
    card = read_card(files)
    if TENSORS not in files:
        raise DataError(f"expected a file {TENSORS}, got {sorted(files)}")
    _check_kinds(card)
    try:
        check_digest(files[TENSORS], card[DIGESTS][TENSORS])
        tensors = safetensors.torch.load(files[TENSORS])
        held_out = held_out_scores_from(tensors, file=TENSORS)
        tensors = {name: value for name, value in tensors.items() if name not in NAMES.values()}
        _refuse_nan(tensors)
        parts = {"text_tower": text_tower, "pooling": pooling}
        method = build_method(card["method"], **card["hyperparameters"])
        return CalibratedClassifier(
            method=method,
            classifier=_classifier(card["method"], {**card["classifier"], **_nested(tensors)}, parts),
            class_names=tuple(card["classes"]),
            logit_scale=card["logit_scale"],
            scaling=Scaling(**{name: card[name] for name in SCALING}),
            threshold=card["threshold"],
            report=_report(card["held_out"]),
            held_out=held_out,
        )
    except (DigestError, safetensors.SafetensorError) as error:
        raise DataError(f"{TENSORS} is damaged: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{CARD} is incomplete: {error}") from error


def _refuse_nan(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise DataError(f"{TENSORS} is damaged: {name} has values that are not numbers")


def _check_kinds(card: Mapping[str, Any]) -> None:
    """Raise a DataError unless the numbers of a card are finite and its class names are different texts."""
    classes = card.get("classes")
    numbers = [card.get(name) for name in ("logit_scale", *SCALING)] + [card.get("threshold") or 0.0]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{CARD}: classes must be a list of texts")
    if not classes or len(set(classes)) != len(classes):
        raise DataError(f"{CARD}: expected at least one class and no name twice, got {len(classes)} names")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise DataError(f"{CARD}: logit_scale, {', '.join(SCALING)} and threshold must be numbers")
    if not all(math.isfinite(value) for value in numbers) or min(card["temperature"], card["least_spread"]) <= 0:
        raise DataError(f"{CARD}: expected finite numbers, temperature and least_spread above 0, got {numbers}")


def backbone_parts(method: str) -> frozenset[str]:
    """Return the parts of the backbone that the classifier of a method needs, of "text_tower" and "pooling"."""
    return frozenset(PARTS) & {field.name for field in dataclasses.fields(METHODS[method].load().classifier_type)}


def _classifier(method: str, values: dict[str, Any], parts: Mapping[str, Any]) -> Classifier:
    kind = METHODS[method].load().classifier_type
    needed = {name: parts[name] for name in backbone_parts(method)}
    if missing := sorted(name for name, part in needed.items() if part is None):
        raise DataError(f"a {method} classifier needs {', '.join(missing)} of its backbone; pass them when loading it")
    expected = {field.name for field in dataclasses.fields(kind)} - needed.keys()
    if expected != values.keys():
        raise DataError(f"a {method} classifier consists of {sorted(expected)}, but the files hold {sorted(values)}")
    classifier: Classifier = kind(**values, **needed)
    return classifier


def _report(values: Mapping[str, Any]) -> HeldOutReport:
    candidates = values.get("candidates")
    return HeldOutReport(
        **{
            **values,
            "candidates": None if candidates is None else tuple(CandidateResult(**result) for result in candidates),
        }
    )


def _field_values(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _tensors(fields: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a classifier by field name; those in a mapping are named "field/name"."""
    found = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{key}": tensor for key, tensor in value.items()}
    return found


def _nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_tensors`."""
    values: dict[str, Any] = {}
    for name, tensor in tensors.items():
        field, separator, key = name.partition("/")
        if separator:
            values.setdefault(field, {})[key] = tensor
        else:
            values[field] = tensor
    return values
